"""Heads and groups: what must divide what, in every mixer that has them."""


def require_heads(expand: int, d_model: int, headdim: int, ngroups: int) -> None:
    """ValueError unless headdim divides expand * d_model, and ngroups the number of heads."""
    d_inner = expand * d_model
    if d_inner % headdim:
        raise ValueError(f"headdim must divide expand * d_model = {expand} * {d_model} = {d_inner}; got {headdim}")
    if d_inner // headdim % ngroups:
        raise ValueError(
            f"ngroups must divide the number of heads, expand * d_model / headdim = {d_inner // headdim}; got {ngroups}"
        )
