"""Webhook: tells people, or their pager, what happened."""
