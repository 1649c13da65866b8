"""Callbacks for training frameworks; a framework is imported only by the module named after it."""
