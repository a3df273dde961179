"""The stages of detection: plan, count in batches, record, write the results."""
