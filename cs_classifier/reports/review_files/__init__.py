"""The files that reviewers get and return: workbook, JSONL, Label Studio tasks."""
