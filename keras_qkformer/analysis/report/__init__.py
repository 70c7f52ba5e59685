"""The report of an analysis: one HTML page, the same as JSON, and tables."""

PAGE_FILE = "report.html"
RECORD_FILE = "report.json"
