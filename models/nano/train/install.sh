#!/bin/sh
# What training nano needs beyond Python: speech and music synthesizers (Debian 12 names). Run as root; safe to run again.
# Then: python3 -m pip install -r models/nano/train/requirements.txt
set -eu
packages="flite libflite1 festival festlex-cmu festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
festlex-ifd festvox-italp16k festvox-itapc16k libfluidsynth3 fluid-soundfont-gm"
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
fi
