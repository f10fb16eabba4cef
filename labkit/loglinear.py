"""The path from which notebooks import the log-linear document model; it lives in `labkit.structure.loglinear`."""

from labkit.structure.loglinear import BATCH, DocumentModel, completion, document_model

__all__ = ["BATCH", "DocumentModel", "completion", "document_model"]
