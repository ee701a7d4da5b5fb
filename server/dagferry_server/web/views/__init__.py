"""The handlers of the web page, one module for each kind of page."""
