"""Ask Qwen-Audio about a sound: `python3 qwen_audio.py --input x.flac --prompt "what does the person say?"`.

    sound -> log-mel -> embeddings -> ids -> text

`listen` is the first half of that way and `answer` the second; everything else here opens the model, goes through the
inputs and turns failures into one line and an exit code. Rooms are imported where they are used: --help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.answer import Answer, Audio
from cli.arguments import Options, parse_arguments
from cli.failures import INPUT_FAILED, INTERRUPTED, OK, READER_GONE, report_failure
from cli.inputs import find_groups
from cli.output import OutputError, check_savepath, prepare_streams, save_text, say, show_piece

if TYPE_CHECKING:
    from audio_encoder.encoder import AudioEncoder, Float32
    from cli.models import Model


def listen(paths: list[str], encoder: AudioEncoder, result: Answer) -> list[Float32]:
    """The sounds of one prompt -> embeddings [audio_tokens + 2, d_model] each. Notes their lengths in `result`."""
    from audio_encoder.log_mel import CHUNK_SECONDS, SAMPLE_RATE, log_mel_spectrogram
    from audio_encoder.waveform import check_length, load_waveform

    with result.timed("audio_s"):
        waveforms = [check_length(load_waveform(path), path) for path in paths]  # [samples] mono, 16 kHz
        mels = [log_mel_spectrogram(waveform) for waveform in waveforms]  # ([n_mels, 3000], frames of sound)
    for path, waveform in zip(paths, waveforms, strict=True):
        seconds = len(waveform) / SAMPLE_RATE
        result.audio.append(Audio(path, round(seconds, 3), round(min(seconds, CHUNK_SECONDS), 3)))
    with result.timed("encode_s"):
        return encoder.encode(mels)


def answer(clips: list[Float32], model: Model, options: Options, result: Answer) -> Iterator[str]:
    """Embeddings and the prompt -> pieces of text, as they are decoded. Fills in `result` on the way."""
    from decoder.generate import generate
    from tokenizer.chat import Turn, encode_base, encode_chat
    from tokenizer.stream import stream_text

    tokenizer, spans = model.tokenizer, tuple(len(clip) for clip in clips)
    if model.manifest.chat_format == "chatml":
        turns = [Turn(options.prompt, audio_spans=spans)]
        ids = encode_chat(tokenizer, turns, system=options.system, max_window_size=model.manifest.max_window_size)
        stop_ids = tokenizer.stop_ids
    else:
        ids = encode_base(tokenizer, options.prompt, audio_spans=spans)
        stop_ids = frozenset({tokenizer.endoftext})
    result.prompt_tokens = len(ids)
    new_ids = generate(model.decoder, ids, clips, stop_ids=stop_ids, max_new_tokens=options.max_new_tokens)
    for piece in stream_text(tokenizer, result.clocked(new_ids)):
        result.text += piece
        yield piece
    room = min(options.max_new_tokens, model.manifest.decoder_sizes.max_positions - len(ids) + 1)
    result.finish_reason = "length" if len(result.token_ids) >= room else "stop"


def run(options: Options) -> int:
    """Answer every input; returns the exit code of the run. What makes it impossible as a whole is raised."""
    from cli.models import open_model, say_environments

    for note in options.notes:
        say(note, quiet=options.quiet)
    if options.env_list:
        say_environments()
    if options.savepath:
        check_savepath(options.savepath)
    groups = find_groups(options.inputs)
    opening = Answer(list(options.inputs), options.prompt)
    with opening.timed("load_s"):
        model = open_model(options)
    code, lines = OK, list[str]()
    try:
        for paths in groups:
            result = Answer(paths, options.prompt, model=str(model.manifest.directory), backend=model.backend)
            result.timings |= opening.timings
            failed = answer_one(model, options, result)
            code = failed or code
            if failed not in (OK, INPUT_FAILED):
                break  # the prompt or the model is at fault: it would fail for every other input too
            if not failed:
                lines.append(result.as_json() if options.json else result.text)
    finally:  # interrupted, too: the answers that are whole are kept
        saved = save(options, lines)
    return code or saved


def answer_one(model: Model, options: Options, result: Answer) -> int:
    """Show one answer, as text while it is decoded or as a line of JSON; returns OK or the exit code of its failure."""
    try:
        for piece in answer(listen(result.input, model.encoder, result), model, options, result):
            if not options.json:
                show_piece(piece)
    except (BrokenPipeError, OutputError):
        raise
    except Exception as failure:  # noqa: BLE001 - a bug of ours is raised again
        return report_failure(failure, result, json=options.json, debug=options.debug)
    finally:
        if not options.json and (result.text or result.finish_reason):
            show_piece("\n")
    if options.json:
        show_piece(result.as_json() + "\n")
    say_left_out(result)
    if options.benchmark_count:
        from cli.benchmark import benchmark

        benchmark(
            lambda timed: answer(listen(timed.input, model.encoder, timed), model, options, timed),
            result,
            options.benchmark_count,
        )
    return OK


def say_left_out(result: Answer) -> None:
    """A warning for each sound of which the model did not hear the end."""
    for audio in result.audio:
        if audio.seconds > audio.seconds_used:
            left = audio.seconds - audio.seconds_used
            say(f"{audio.path}: the last {left:.1f} s of {audio.seconds:.1f} s were left out; the model hears 30 s")


def save(options: Options, lines: list[str]) -> int:
    """The answers into --savepath; returns OK or the exit code of the failure. They stand on standard output too."""
    if options.savepath and lines:
        try:
            save_text(options.savepath, "".join(line + "\n" for line in lines))
        except OSError as error:
            say(f"--savepath {options.savepath}: not written ({error.strerror or error}); the answers are on stdout")
            return INPUT_FAILED
    return OK


def attempt(argv: list[str]) -> int:
    """Run as the arguments say and tell what ended it; a keyboard or a reader that ends it is not told here."""
    asked, json, debug = Answer([], ""), "--json" in argv, "--debug" in argv
    try:
        options = parse_arguments(argv)
        asked = Answer(list(options.inputs), options.prompt)
        return run(options)
    except BrokenPipeError:
        raise
    except Exception as failure:  # noqa: BLE001 - a bug of ours is raised again
        return report_failure(failure, asked, json=json, debug=debug)


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit code, but --help exits with 0."""
    prepare_streams()
    try:
        return attempt(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return READER_GONE


if __name__ == "__main__":
    sys.exit(main())
