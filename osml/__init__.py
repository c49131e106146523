"""osml: clinical multimodal AutoML with honest validation and nomograms that prove themselves."""

__version__ = "0.1.0"
