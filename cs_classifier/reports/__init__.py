"""What people read: evaluation reports, the model card, the summary of a run; all masked."""
