"""Post-train language models for best-of-N with few rollouts per prompt, and measure what it bought."""

from tailgrad._version import __version__

__all__ = ["__version__"]
