"""The report: tables, figures, the page itself and the reader quiz."""
