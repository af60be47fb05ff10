"""Ask Qwen-Audio about a sound: `python3 qwen_audio.py --input x.flac --prompt "what does the person say?"`.

    sound -> log-mel -> embeddings -> ids -> text

`listen` is the first half of that way and `answer` the second; everything else here opens the model, goes through the
inputs and turns failures into one line and an exit code. Rooms are imported where they are used: --help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cli.answer import Answer, Audio, save_text, say, show_piece
from cli.arguments import Options, parse_arguments
from cli.inputs import find_groups

if TYPE_CHECKING:
    from audio_encoder.encoder import AudioEncoder, Float32
    from decoder.decoder import Decoder
    from models.manifest import Manifest
    from models.session import SessionOptions
    from tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Model:
    """An open model: its manifest, its three parts, and the name of the backend that runs it."""

    manifest: Manifest
    encoder: AudioEncoder
    decoder: Decoder
    tokenizer: Tokenizer
    backend: str


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


def open_model(options: Options) -> Model:
    """Find and open the model on the first backend that can; raises ManifestError, BackendError, TokenizerError."""
    from audio_encoder.encoder import AudioEncoder
    from cli.models import find_model
    from decoder.decoder import Decoder
    from models.manifest import load_manifest, verify_files
    from models.session import SessionOptions, choose_backend
    from tokenizer.tokenizer import Tokenizer, TokenizerError

    manifest = load_manifest(find_model(options.model))
    if options.verify:
        verify_files(manifest)
    if manifest.vocabulary is None:
        raise TokenizerError(
            f"{manifest.directory}: converted without a vocabulary; put qwen.tiktoken into the checkpoint"
        )
    wanted = SessionOptions(options.backend, options.device, options.threads, options.env_id, options.memory_mode)
    backend, reasons = choose_backend(manifest, wanted)
    if reasons:
        say(f"running on {backend}, since {'; '.join(reasons)}", quiet=options.quiet)
    chosen: SessionOptions = replace(wanted, backend=backend)
    tokenizer = Tokenizer(manifest.path(manifest.vocabulary))
    return Model(manifest, AudioEncoder(manifest, chosen), Decoder(manifest, chosen), tokenizer, backend)


def run(options: Options) -> int:
    """Answer every input; returns the exit code of the run."""
    from cli.failures import EXIT_CODES, FAILURES, OK

    code, lines, model = OK, [], None
    for note in options.notes:
        say(note, quiet=options.quiet)
    groups = find_groups(options.inputs)
    opening = Answer(list(options.inputs), options.prompt)
    with opening.timed("load_s"):
        model = open_model(options)
    for paths in groups:
        result = Answer(paths, options.prompt, timings=dict(opening.timings))
        try:
            for piece in answer(listen(paths, model.encoder, result), model, options, result):
                if not options.json:
                    show_piece(piece)
        except FAILURES as failure:
            code = max(code, EXIT_CODES[type(failure)])
            report_failure(failure, options, result)
            continue
        report(result, model, options)
        lines.append(result.text)
    if options.savepath and lines:
        save_text(options.savepath, lines)
    return code


def report(result: Answer, model: Model, options: Options) -> None:
    """End an answer: its last line break or its JSON, what was left out, and the benchmark if one was asked for."""
    from cli.benchmark import benchmark

    show_piece(
        result.as_json(model=str(model.manifest.directory), backend=model.backend) + "\n" if options.json else "\n"
    )
    for audio in result.audio:
        if audio.seconds > audio.seconds_used:
            left = audio.seconds - audio.seconds_used
            say(f"{audio.path}: the last {left:.1f} s of {audio.seconds:.1f} s were left out; the model hears 30 s")
    if options.benchmark_count:
        again = lambda timed: "".join(answer(listen(result.input, model.encoder, timed), model, options, timed))  # noqa: E731
        benchmark(again, result, options.benchmark_count, say)


def report_failure(failure: Exception, options: Options, result: Answer | None = None) -> None:
    """One line on standard error, and with --json one on standard output."""
    say(str(failure))
    if options.json:
        failed = result or Answer(list(options.inputs), options.prompt)
        show_piece(failed.as_json(model=None, backend=None, error=str(failure)) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run as the arguments say; returns the exit code (2 for wrong usage is argparse's own exit)."""
    options = parse_arguments(argv)
    try:
        from cli.failures import EXIT_CODES, FAILURES, INTERRUPTED

        return run(options)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except FAILURES as failure:
        if options.debug:
            raise
        report_failure(failure, options)
        return EXIT_CODES[type(failure)]


if __name__ == "__main__":
    sys.exit(main())
