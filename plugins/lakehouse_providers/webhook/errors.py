"""What can go wrong with a webhook.

WebhookError
├── WebhookConfigurationError   the connection holds no address
└── WebhookDeliveryError        the receiver refused the message or did not answer
"""

from __future__ import annotations


class WebhookError(Exception):
    pass


class WebhookConfigurationError(WebhookError):
    pass


class WebhookDeliveryError(WebhookError):
    pass
