"""File of features -> the files that localisation codes load: FEATURE_LAYOUTS."""

from flowpipe.features.layouts.export import (
    FEATURE_LAYOUTS,
    VALUES,
    FeatureExportJob,
    export_features,
)
from flowpipe.features.layouts.selection import Values

__all__ = ["FEATURE_LAYOUTS", "VALUES", "FeatureExportJob", "Values", "export_features"]
