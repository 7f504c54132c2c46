"""Evaluation of pre-trained encoders: features, probes, baselines, results, prediction, export."""
