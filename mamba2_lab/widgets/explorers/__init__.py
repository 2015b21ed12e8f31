"""Figures that follow their controls: most of them a thin shell around a pure function of `plots`."""
