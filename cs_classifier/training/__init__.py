"""Labelled lines in, a complete artifact out. Needs torch; nothing that scores lines does."""

from cs_classifier.training.recipe import check_apart, fit_decision, recalibrate, train

__all__ = ["check_apart", "fit_decision", "recalibrate", "train"]
