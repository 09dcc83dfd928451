//! Templates of the presets for business and talk: Stripe, Shopify, Slack, Discord, Telegram, Linear, Zoom.

use super::Defaults;

pub const STRIPE: Defaults = &[
    (
        "payment_intent.succeeded",
        "Payment of {{ data.object.amount_received|money(data.object.currency) }} succeeded\
         {{ ' (test mode)' if livemode == false }}: {{ data.object.id }}",
    ),
    (
        "payment_intent.payment_failed",
        "Payment of {{ data.object.amount|money(data.object.currency) }} failed\
         {{ ' (test mode)' if livemode == false }}: \
         {{ data.object.last_payment_error.message|truncate(200) or data.object.id }}",
    ),
    (
        "charge.refunded",
        "{{ data.object.amount_refunded|money(data.object.currency) }} refunded\
         {{ ' (test mode)' if livemode == false }}: {{ data.object.id }}",
    ),
    (
        "charge.dispute.*",
        "Dispute over {{ data.object.amount|money(data.object.currency) }}: \
         {{ data.object.status|replace('_', ' ') }}, {{ data.object.reason|replace('_', ' ') }}\
         {{ ' (test mode)' if livemode == false }}",
    ),
    (
        "invoice.paid",
        "Invoice {{ data.object.number or data.object.id }} paid: \
         {{ data.object.amount_paid|money(data.object.currency) }}\
         {{ ' (test mode)' if livemode == false }}\n{{ data.object.hosted_invoice_url }}",
    ),
    (
        "invoice.payment_failed",
        "Payment of invoice {{ data.object.number or data.object.id }} failed: \
         {{ data.object.amount_due|money(data.object.currency) }} due\
         {{ ' (test mode)' if livemode == false }}\n{{ data.object.hosted_invoice_url }}",
    ),
    (
        "checkout.session.completed",
        "Checkout completed: {{ data.object.amount_total|money(data.object.currency) }}\
         {{ ' (test mode)' if livemode == false }}",
    ),
    (
        "customer.subscription.*",
        "Subscription {{ event|replace('customer.subscription.', '')|replace('_', ' ') }}: \
         {{ data.object.id }} is {{ data.object.status|replace('_', ' ') }}\
         {{ ' (test mode)' if livemode == false }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if data.object.id %}: {{ data.object.id }}{% endif %}\
         {{ ' (test mode)' if livemode == false }}",
    ),
];

pub const SHOPIFY: Defaults = &[
    (
        "orders/edited",
        "Order {{ order_edit.order_id }} edited\
         {% if order_edit.staff_note %}: {{ order_edit.staff_note|truncate(200) }}{% endif %}",
    ),
    (
        "orders/*",
        "Order {{ name or id }} {{ {'orders/create': 'created', 'orders/delete': 'deleted'}[event] or \
         event|replace('orders/', '')|replace('_', ' ') }}\
         {% if total_price %}: {{ total_price }} {{ currency }}{% endif %}",
    ),
    (
        "refunds/create",
        "Refund for order {{ order_id }}{% if note %}: {{ note|truncate(200) }}{% endif %}",
    ),
    (
        "products/*",
        "Product {{ {'create': 'created', 'update': 'updated', 'delete': 'deleted'}\
         [event|replace('products/', '')] or event }}: {{ (title or id)|truncate(200) }}",
    ),
    (
        "app/uninstalled",
        "App uninstalled from {{ name or domain }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if name or title %}: {{ name or title }}{% endif %}",
    ),
];

pub const SLACK: Defaults = &[
    (
        "message",
        "{% set it = body.event.message or body.event %}\
         {% if body.event.subtype == 'message_deleted' %}A message was deleted in {{ body.event.channel }}\
         {% else %}{{ it.user or it.username or it.bot_id or 'Slack' }} in {{ body.event.channel }}\
         {{ ' (edited)' if body.event.subtype == 'message_changed' }}: \
         {{ it.text|slack or 'a message without text' }}{% endif %}",
    ),
    (
        "app_mention",
        "{{ body.event.user or body.event.bot_id or 'Slack' }} in {{ body.event.channel }}: \
         {{ body.event.text|slack or 'a message without text' }}",
    ),
    (
        "reaction_added",
        "{{ body.event.user }} reacted with :{{ body.event.reaction }}: in \
         {{ body.event.item.channel }}",
    ),
    (
        "command",
        "{{ user_name or user_id }}: {{ command }} {{ text }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if user.username or user.name %} by \
         {{ user.username or user.name }}{% endif %}",
    ),
];

pub const DISCORD: Defaults = &[
    (
        "application_command",
        "{{ member.user.username or user.username }}: /{{ data.name }}\
         {% for option in data.options %} {{ option.value }}{% endfor %}",
    ),
    (
        "APPLICATION_AUTHORIZED",
        "{{ body.event.data.user.username }} added the app\
         {% if body.event.data.guild %} to {{ body.event.data.guild.name }}{% endif %}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if member or user %} by \
         {{ member.user.username or user.username }}{% endif %}",
    ),
];

pub const TELEGRAM: Defaults = &[
    (
        "message",
        "{{ message.from.first_name or message.chat.title }}: {{ message.text or message.caption or \
         'a message without text' }}",
    ),
    (
        "edited_message",
        "{{ edited_message.from.first_name }} (edited): \
         {{ edited_message.text or edited_message.caption or \
         'a message without text' }}",
    ),
    (
        "channel_post",
        "{{ channel_post.chat.title }}: {{ channel_post.text or channel_post.caption or \
         'a message without text' }}",
    ),
    (
        "callback_query",
        "{{ callback_query.from.first_name }} chose {{ callback_query.data }}",
    ),
    (
        "my_chat_member",
        "{% set it = my_chat_member %}{{ it.from.first_name }} changed the bot in \
         {{ it.chat.title or 'a private chat' }}: \
         {{ it.old_chat_member.status or 'unknown' }} before, {{ it.new_chat_member.status }} now",
    ),
    (
        "chat_member",
        "{% set it = chat_member %}{{ it.from.first_name }} changed {{ it.new_chat_member.user.first_name }} \
         in {{ it.chat.title }}: {{ it.old_chat_member.status or 'unknown' }} before, \
         {{ it.new_chat_member.status }} now",
    ),
    (
        "default",
        "{{ source }} {{ event }}\
         {% if body[event].from.first_name %} by {{ body[event].from.first_name }}{% endif %}",
    ),
];

/// What most senders have in `data`.
pub const STANDARD: Defaults = &[(
    "default",
    "{{ source }} {{ event }}\
     {% set about = data.name or data.title or data.number or data.email or data.id %}\
     {% if about %}: {{ about|truncate(200) }}{% endif %}",
)];

pub const LINEAR: Defaults = &[
    (
        "Comment.*",
        "{{ actor.name or data.user.name or 'Linear' }} commented\
         {% if data.issue %} on {{ data.issue.identifier or data.issue.title }}{% endif %}: \
         {{ data.body|lines|first|truncate(200) }}\n{{ url }}",
    ),
    (
        "default",
        "{{ actor.name or 'Linear' }} {{ {'create': 'created', 'update': 'updated', \
         'remove': 'removed'}[action] or action }} {{ type|lower }} {{ data.identifier }}\
         {{ ': ' if data.title or data.name }}{{ (data.title or data.name)|truncate(200) }}\n{{ url }}",
    ),
];

pub const ZOOM: Defaults = &[
    (
        "meeting.participant_*",
        "{{ payload.object.participant.user_name }} \
         {{ event|replace('meeting.participant_', '')|replace('_', ' ') }} the meeting \
         {{ payload.object.topic }}",
    ),
    (
        "meeting.*",
        "Zoom meeting {{ event|replace('meeting.', '')|replace('_', ' ') }}: \
         {{ payload.object.topic }}",
    ),
    (
        "recording.*",
        "Zoom recording {{ event|replace('recording.', '')|replace('_', ' ') }}: \
         {{ payload.object.topic }}\n{{ payload.object.share_url }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if payload.object.topic %}: {{ payload.object.topic }}{% endif %}",
    ),
];
