#!/bin/sh
# What training nano needs beyond Python: synthesizers of music and of speech (Debian 12 names; contrib and non-free must
# be among the components of its sources). Run as root; safe to run again.
# Then: python3 -m pip install -r models/nano/train/requirements.txt
set -eu
packages="libfluidsynth3 fluid-soundfont-gm rhvoice rhvoice-english libttspico-utils flite espeak-ng"
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
fi
