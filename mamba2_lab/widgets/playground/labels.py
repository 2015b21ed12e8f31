"""What the fields of the playground are called, by the names of the settings that they set."""

FIELDS = {
    "model": "model",
    "weights": "weights",
    "length": "new tokens",
    "elsewhere": "folder or Hub id",
    "repetition_penalty": "repetition penalty",
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
}
