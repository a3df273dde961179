"""Long-running front doors: the command line, embedded servers, the S3-event receiver."""
