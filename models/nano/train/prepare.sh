#!/bin/sh
# All that training reads, in some 35 minutes of two cores (reckoned): step 2 of README.md.
#   sh models/nano/train/prepare.sh RECORDINGS SNAPSHOTS VOCABULARY WORK
# RECORDINGS has meta.jsonl. SNAPSHOTS has git snapshots of what the table of README.md names, as OWNER+NAME/repo.
# Debian's packages are fetched by apt-get, Whisper base by pip; ffmpeg must be there. What is there is not made again.
set -eu
recordings=$(realpath "$1") snapshots=$(realpath "$2") vocabulary=$(realpath "$3")
mkdir -p "$4/kathleen" "$4/english" "$4/others"
work=$(realpath "$4")
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
train voices "$work/voices" --snapshots "$snapshots" --recordings "$recordings" --asterisk "$work/english"
train voices_many "$work/many" --snapshots "$snapshots" --recordings "$recordings"
train voices_foreign "$work/foreign" --packages "$work/others" --snapshots "$snapshots"
mkdir -p "$work/features"
fetch="import pathlib, sys; from models.nano.train import whisper_base; whisper_base.fetch(pathlib.Path(sys.argv[1]))"
"$python" -c "$fetch" "$work/features/whisper-base.bin" # before two processes want it
halves features "$work/features/real" --recordings "$recordings" --kathleen "$work/kathleen" --variants 0
halves features "$work/features/more" --recordings "$work/voices" --variants 0 2
halves features "$work/features/many" --recordings "$work/many" --variants 0
halves features "$work/features/foreign" --recordings "$work/foreign" --variants 0
halves scenes "$work/features/scenes" --recordings "$recordings" --kathleen "$work/kathleen" --shards 4
# the same in rooms, noise and at other speeds: what is short three times, sentences once
halves features "$work/features/short" --recordings "$recordings" --variants 1 2 3 --sources ambient digits instruments \
    multilingual opensfx sonic_pi sounds_baby sounds_berklee thorsten_de wake_words wake_words_es
halves features "$work/features/speech" --recordings "$recordings" --variants 1 --sources librispeech lj_speech speechocean762
for set in real more many short speech; do
    [ -e "$work/features/$set/written.jsonl" ] || cp "$here/whisper_texts.jsonl" "$work/features/$set/written.jsonl"
done
for set in real more many; do
    train align "$work/features/whisper-base.bin" --features "$work/features/$set" --vocabulary "$vocabulary"
done
