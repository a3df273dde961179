"""The stages of detection: plan, count in batches, record, summarise."""
