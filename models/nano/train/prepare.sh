#!/bin/sh
# All that training reads, in some 100 minutes of two cores (reckoned): step 2 of README.md.
#   sh models/nano/train/prepare.sh RECORDINGS SNAPSHOTS TEXTS VOCABULARY WORK
# RECORDINGS has meta.jsonl. SNAPSHOTS has git snapshots of what the table of README.md names, as OWNER+NAME/repo.
# TEXTS has books as *.txt and transcripts as *.lines.
# Debian's packages are fetched by apt-get, Whisper base by pip; ffmpeg must be there. What is there is not made again.
set -eu
recordings=$(realpath "$1") snapshots=$(realpath "$2") texts=$(realpath "$3") vocabulary=$(realpath "$4")
mkdir -p "$5/kathleen" "$5/english" "$5/others"
work=$(realpath "$5")
here=$(dirname "$(realpath "$0")")
cd "$here/../../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-python3}
train() { module=$1; shift; "$python" -m "models.nano.train.$module" "$@"; }
halves() { train "$@" --share 0/2 & first=$!; train "$@" --share 1/2; wait "$first"; } # a process a core

if [ ! -e "$work/kathleen/done" ]; then
    git_dir="$snapshots/rhasspy+dataset-voice-kathleen/repo"
    mkdir -p "$work/raw"
    git --git-dir "$git_dir" archive HEAD data | tar -x -C "$work/raw"
    (cd "$work/raw/data" && ls ./*.wav) | sed 's/\.wav$//' |
        xargs -P 2 -I{} ffmpeg -v error -nostdin -y -i "$work/raw/data/{}.wav" -ac 1 -ar 16000 "$work/kathleen/{}.flac"
    cp "$work"/raw/data/*.txt "$work/kathleen/"
    touch "$work/kathleen/done"
fi
sounds=asterisk-core-sounds
if [ ! -e "$work/others/done" ]; then
    (cd "$work" && apt-get download $sounds-en $sounds-en-g722 $sounds-es-g722 $sounds-fr-g722 $sounds-it-g722 \
        asterisk-prompt-it-menardi-wav asterisk-prompt-fr-armelle)
    for package in "$work"/*.deb; do
        case $package in */$sounds-en*) to=english ;; *) to=others ;; esac
        dpkg -x "$package" "$work/$to"
    done
    zcat "$work/english/usr/share/doc/$sounds-en/core-sounds-en.txt.gz" >"$work/english/$sounds-en.txt"
    touch "$work/others/done"
fi
mkdir -p "$work/descriptions" # of Debian's packages, in eight languages
for file in en.xz de.bz2 es.bz2 fr.bz2 it.bz2 ja.bz2 ko.bz2 zh_CN.bz2; do
    [ -e "$work/descriptions/Translation-$file" ] || curl -sSf --output "$work/descriptions/Translation-$file" \
        "http://deb.debian.org/debian/dists/bookworm/main/i18n/Translation-$file"
done
train voices "$work/voices" --snapshots "$snapshots" --recordings "$recordings" --asterisk "$work/english"
train voices_many "$work/many" --snapshots "$snapshots" --recordings "$recordings"
train sounds_many "$work/sounds_many" --snapshots "$snapshots"
train voices_foreign "$work/foreign" --packages "$work/others" --snapshots "$snapshots"
train voices_made "$work/made" "$texts" --vocabulary "$vocabulary" --most 6500
if [ ! -e "$work/wordnet/usr/share/wordnet/data.noun" ]; then
    (cd "$work" && apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet)
fi
[ -e "$work/phrases.lines" ] || train phrases "$work/phrases.lines" "$texts" --wordnet "$work/wordnet/usr/share/wordnet" \
    --vocabulary "$vocabulary"
for part in 0 1 2 3; do
    sed -n "$((part * 7200 + 1)),$((part * 7200 + 7200))p" "$work/phrases.lines" >"$work/phrases.$part"
    train voices_made "$work/phrases$part" "$texts" --vocabulary "$vocabulary" --phrases "$work/phrases.$part" --most 7200
done
train voices_made_foreign "$work/made_foreign" "$work/descriptions"
mkdir -p "$work/features"
fetch="import pathlib, sys; from models.nano.train import whisper_base; whisper_base.fetch(pathlib.Path(sys.argv[1]))"
"$python" -c "$fetch" "$work/features/whisper-base.bin" # before two processes want it
halves features "$work/features/real" --recordings "$recordings" --kathleen "$work/kathleen" --variants 0
halves features "$work/features/more" --recordings "$work/voices" --variants 0 2 3
halves features "$work/features/many" --recordings "$work/many" --variants 0 1
halves passages "$work/features/passages" --recordings "$recordings" "$work/voices" "$work/many" "$work/made" \
    --kathleen "$work/kathleen" --shards 4
halves features "$work/features/foreign" --recordings "$work/foreign" --variants 0 1
halves features "$work/features/sounds_many" --recordings "$work/sounds_many" --variants 0 1 2 3
halves scenes "$work/features/scenes" --recordings "$recordings" --kathleen "$work/kathleen" --shards 4
# the same in rooms, noise and at other speeds: what is short three times, sentences once or twice
halves features "$work/features/short" --recordings "$recordings" --variants 1 2 3 --sources ambient digits instruments \
    multilingual opensfx sonic_pi sounds_baby sounds_berklee thorsten_de wake_words wake_words_es
halves features "$work/features/speech" --recordings "$recordings" --kathleen "$work/kathleen" --variants 1 2 \
    --sources librispeech lj_speech speechocean762 kathleen
halves features "$work/features/made" --recordings "$work/made" --variants 1
halves features "$work/features/phrases0" --recordings "$work/phrases0" --variants 0
halves features "$work/features/phrases1" --recordings "$work/phrases1" --variants 1
halves features "$work/features/phrases2" --recordings "$work/phrases2" --variants 9
halves features "$work/features/phrases3" --recordings "$work/phrases3" --variants 0
halves features "$work/features/made_foreign" --recordings "$work/made_foreign" --variants 1
# and by telephone
halves features "$work/features/phone" --recordings "$recordings" --variants 9 \
    --sources librispeech lj_speech speechocean762
halves features "$work/features/phone_more" --recordings "$work/voices" --variants 9 --sources librispeech_more
for set in real more many short speech phone phone_more; do
    [ -e "$work/features/$set/written.jsonl" ] || xz -dc "$here/whisper_texts.jsonl.xz" >"$work/features/$set/written.jsonl"
done
for set in real more many; do
    train align "$work/features/whisper-base.bin" --features "$work/features/$set" --vocabulary "$vocabulary"
done
train likely "$work/features/real" "$work/features/short" "$work/features/sounds_many"
