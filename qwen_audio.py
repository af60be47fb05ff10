"""Ask Qwen-Audio about a sound: `python3 qwen_audio.py --input x.flac --prompt "what does the person say?"`.

    sound -> log-mel -> embeddings -> ids -> text

`listen` is the first half of that way, `ask` builds the prompts, `answer` is the second half; each goes through all
sounds, one after the other or several side by side. The rest opens the model, decides where answers go and turns
failures into one line and an exit code. Rooms are imported where they are used: --help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from cli.errors import INTERRUPTED, READER_GONE, TERMINATED, Terminated, end_on_sigterm, report_failure
from cli.options import Options, parse_arguments
from cli.output.answer import Answer
from cli.output.streams import hide_native_messages, prepare_streams, say
from cli.run.prefetch import ahead, leave, then

if TYPE_CHECKING:
    from cli.run.job import Case
    from cli.run.open_model import Model
    from cli.run.reporter import Board
    from cli.run.segments import Piece
    from decoder.generate import Request


def listen(case: Case, model: Model, options: Options) -> Iterator[Piece]:
    """The sounds of a case -> embeddings [audio_tokens + 2, d_model] each; window by window where one is long."""
    from audio_encoder.log_mel import log_mel_spectrogram
    from cli.run.segments import pieces

    for piece in pieces(case, long=options.long):  # with waveforms [samples], mono, 16 kHz
        with piece.timed("audio_s"):
            mels = [log_mel_spectrogram(waveform) for waveform in piece.waveforms]  # ([n_mels, 3000], frames of sound)
        with piece.timed("encode_s"):
            piece.clips = model.encoder.encode(mels)
        yield piece


def ask(cases: Iterable[Case], model: Model, options: Options, board: Board) -> Iterator[Request]:
    """Cases -> requests: the ids of each question about each piece of sound, with the clips that they speak of."""
    from decoder.generate import Request
    from tokenizer.chat import Turn, encode_base, encode_chat

    tokenizer, window = model.tokenizer, model.manifest.max_window_size
    # The next sounds are read and encoded while these are answered.
    heard = ahead(partial(listen, model=model, options=options), cases, timeout=options.timeout)
    with closing(heard):
        for case, piece in heard:
            if isinstance(piece, Exception):
                board.fail(case, piece)
                continue
            spans = tuple(len(clip) for clip in piece.clips)
            for key in board.hear(case, piece):
                try:
                    if model.chat:
                        turns = [Turn(key.question.prompt, audio_spans=spans)]
                        ids = encode_chat(tokenizer, turns, system=options.system, max_window_size=window)
                    else:
                        ids = encode_base(tokenizer, key.question.prompt, audio_spans=spans)
                except Exception as failure:  # noqa: BLE001 - told by the board, which raises what is a bug
                    board.fail(case, failure)
                    break
                key.answer.prompt_tokens = max(key.answer.prompt_tokens, len(ids))
                longest = key.question.max_new_tokens
                yield Request(key, ids, piece.clips, model.stop_ids, longest, case.deadline, group=case)


def answer(requests: Iterator[Request], model: Model, board: Board) -> None:
    """Requests -> text, as it is decoded, on the board."""
    from decoder.generate import generate_many
    from tokenizer.stream import TextStream

    streams: dict[object, TextStream] = {}
    for event in generate_many(model.decoder, requests):
        stream = streams.setdefault(event.key, TextStream(model.tokenizer))
        piece = "" if event.token_id is None else stream.push(event.token_id)
        if event.finish_reason or event.error:
            piece += streams.pop(event.key).end()
        board.take(event, piece)


def decide(requests: Iterator[Request], model: Model, board: Board, names: Sequence[str]) -> None:
    """Requests -> the likeliest of some choices, with the log-probability of each, on the board."""
    from decoder.choices import choose
    from errors import PromptError

    choices = {choice: model.tokenizer.encode(choice, special="audio") for choice in names}
    for request in requests:
        try:
            found = choose(model.decoder, request.ids, request.clips, list(choices.values()), end_id=model.end_id)
        except PromptError as failure:
            board.fail(request.key.case, failure)
        else:
            board.choose(request.key, dict(zip(choices, found, strict=True)), choices)


def go_through(cases: Iterable[Case], model: Model, options: Options, board: Board) -> None:
    """The whole way, for all cases."""
    requests = ask(cases, model, options, board)
    if options.choices:
        decide(requests, model, board, options.choices)
    else:
        answer(requests, model, board)


def run(options: Options) -> int:
    """Answer every input; returns the exit code of the run. What makes it impossible as a whole is raised."""
    from cli.run.benchmark import benchmark
    from cli.run.open_model import open_model, say_environments
    from cli.run.reporter import RunOver, open_board

    for note in options.notes:
        say(note, quiet=options.quiet)
    if options.env_list:
        say_environments()
    with open_board(options) as board:
        if board.listing.groups:
            opening = Answer(list(options.inputs), "")
            with opening.timed("load_s"):
                model = open_model(options)
            cases = board.cases(model, opening.timings["load_s"])
            if not options.benchmark_count:  # they are listened to again
                cases = then(cases, model.encoder.close)
            try:
                go_through(cases, model, options, board)
            except BrokenPipeError:
                raise
            except RunOver:
                pass
            except Exception as failure:  # noqa: BLE001 - told in a line; a bug of ours is raised again
                board.abort(failure)
            for case in board.answered:
                benchmark(partial(repeated, case, model, options, board), options.benchmark_count)
    return board.code


def repeated(case: Case, model: Model, options: Options, board: Board) -> Answer:
    """The first answer of a case, once more, shown nowhere."""
    silent, fresh = board.again(case)
    go_through([fresh], model, options, silent)
    return fresh.answers[0]


def attempt(argv: list[str]) -> int:
    """Run as the arguments say and tell what ended it; a keyboard or a reader that ends it is not told here."""
    asked, json, debug = Answer([], ""), "--json" in argv, "--debug" in argv
    try:
        options = parse_arguments(argv)
        asked = Answer(list(options.inputs), options.prompts[0] if options.prompts else "")
        if options.doctor:
            from cli.doctor.report import doctor

            return doctor(options)
        if options.chat:
            from cli.run.chat import chat

            return chat(options, listen)
        return run(options)
    except BrokenPipeError:
        raise
    except Exception as failure:  # noqa: BLE001 - a bug of ours is raised again
        return report_failure(failure, asked, json=json, debug=debug).exit_code


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit code, but --help exits with 0."""
    prepare_streams()
    try:
        return attempt(sys.argv[1:] if argv is None else argv)
    except Terminated:
        say("terminated")
        return TERMINATED
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return READER_GONE


if __name__ == "__main__":
    if "--debug" not in sys.argv:
        hide_native_messages()
    end_on_sigterm()
    leave(main())
