"""The errors that people can do something about.

Every one says what is wrong, what was expected, what came, and what to do.
"""


class WorkbenchError(Exception):
    """Anything the workbench refuses to do; catch this to catch all of them."""


class CheckpointError(WorkbenchError):
    """A checkpoint is missing, damaged, or not a Pangu model this workbench knows."""


class TokenizerError(WorkbenchError):
    """The tokenizer's files are missing, or a text cannot be encoded."""


class QuantizationError(WorkbenchError):
    """The wanted precision does not fit the checkpoint or the machine."""


class TraceError(WorkbenchError):
    """A trace lacks what was asked of it, or a file is no trace."""


class GenerationError(WorkbenchError):
    """Sampling settings or a prompt that cannot be used for generation."""


class HistoryError(WorkbenchError):
    """A history, preset or prompt matrix that cannot be written, read, or does not hold what was asked."""


class ServerError(WorkbenchError):
    """A server that cannot be reached, refuses, or breaks off.

    `generation` holds what came before, where it happened in an answer.
    """

    generation = None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or torch's on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "not enough memory", "allocate memory")
    )
