"""Which failure ends a run with which exit code. The only list of our named errors."""

from __future__ import annotations

from audio_encoder.waveform import AudioError
from cli.inputs import InputError
from decoder.decoder import PromptError
from models.manifest import ManifestError
from models.session import BackendError
from tokenizer.chat import ChatError
from tokenizer.tokenizer import TokenizerError

OK, INPUT_FAILED, WRONG_USAGE, NO_MODEL, NOTHING_TO_DO, INTERRUPTED = 0, 1, 2, 3, 4, 130

EXIT_CODES: dict[type[Exception], int] = {
    AudioError: INPUT_FAILED,
    PromptError: WRONG_USAGE,
    ChatError: WRONG_USAGE,
    ManifestError: NO_MODEL,
    BackendError: NO_MODEL,
    TokenizerError: NO_MODEL,
    InputError: NOTHING_TO_DO,
}
FAILURES = tuple(EXIT_CODES)
