//! Templates of the presets for operations: alerts, errors, uptime, clouds.

use super::Defaults;

pub const GRAFANA: Defaults = &[(
    "*",
    "{{ title or '[' ~ status|upper ~ '] ' ~ commonLabels.alertname }}\
     {% for alert in (alerts or [])[:5] %}\n\
     {{ alert.annotations.summary or alert.annotations.description or alert.labels.alertname }}\
     {% if alert.labels.instance %} ({{ alert.labels.instance }}){% endif %}{% endfor %}\
     {% if alerts|length > 5 %}\nand {{ alerts|length - 5 }} more{% endif %}",
)];

pub const ALERTMANAGER: Defaults = &[(
    "*",
    "{{ status|upper }}{% if alerts|length > 1 %} ({{ alerts|length }} alerts){% endif %} \
     {{ groupLabels.alertname or commonLabels.alertname or receiver }}\
     {% for alert in (alerts or [])[:5] %}\n\
     {{ alert.labels.instance or alert.labels.alertname }}: \
     {{ (alert.annotations.summary or alert.annotations.description or alert.annotations.message)\
     |truncate(300) }}{% endfor %}\
     {% if alerts|length > 5 %}\nand {{ alerts|length - 5 }} more{% endif %}",
)];

pub const PAGERDUTY: Defaults = &[
    (
        "incident.*",
        "Incident #{{ body.event.data.number or body.event.data.incident.id }} \
         {{ event|replace('incident.', '')|replace('_', ' ') }}\
         {% if body.event.data.title %}: {{ body.event.data.title|truncate(200) }}{% endif %}\
         {% if body.event.data.service %} ({{ body.event.data.service.summary }}, \
         {{ body.event.data.urgency }} urgency){% endif %}\n{{ body.event.data.html_url }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if body.event.data.title or body.event.data.summary %}: \
         {{ body.event.data.title or body.event.data.summary }}{% endif %}",
    ),
];

pub const SENTRY: Defaults = &[
    (
        "issue.*",
        "Issue {{ data.issue.shortId }} {{ action|replace('_', ' ') }} ({{ data.issue.level }}): \
         {{ data.issue.title|truncate(200) }}\n{{ data.issue.web_url }}",
    ),
    (
        "event_alert.*",
        "Alert {{ data.triggered_rule }}: {{ data.event.title|truncate(200) }}\n\
         {{ data.event.web_url }}",
    ),
    (
        "metric_alert.*",
        "Alert {{ action }}: {{ data.description_title or data.metric_alert.title }}\
         {% if data.description_text %}, {{ data.description_text|truncate(200) }}{% endif %}\n\
         {{ data.web_url }}",
    ),
    (
        "error.*",
        "Error {{ action }}: {{ data.error.title|truncate(200) }}\n{{ data.error.web_url }}",
    ),
    (
        "comment.*",
        "{{ actor.name }} commented on an issue: {{ data.comment|truncate(200) }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if actor.name %} by {{ actor.name }}{% endif %}",
    ),
];

pub const CLOUDFLARE: Defaults = &[(
    "*",
    "{{ name }}{{ ': ' if name and text }}{{ text|truncate(1000) }}",
)];

pub const UPTIME_KUMA: Defaults = &[(
    "*",
    "{{ msg }}{% if monitor.url and monitor.url ~ '' not in msg ~ '' %}\n{{ monitor.url }}{% endif %}",
)];

pub const EVENT_GRID: Defaults = &[(
    "*",
    "{% if body is sequence and body is not string %}\
     {% for it in body[:5] %}{{ it.eventType or it.type or event }}\
     {% if it.subject %}: {{ it.subject|truncate(200) }}{% endif %}\n{% endfor %}\
     {% set more = body|length - 5 %}\
     {% if more > 0 %}and {{ more }} more event{{ 's' if more != 1 }}{% endif %}\
     {% else %}{{ event }}{% if subject %}: {{ subject|truncate(200) }}{% endif %}{% endif %}",
)];

pub const CLOUD_EVENTS: Defaults = &[(
    "*",
    "{% if body is sequence and body is not string and body[0].specversion %}\
     {% for it in body[:5] %}{{ it.type or event }}\
     {% if it.source %} from {{ it.source }}{% endif %}\
     {% if it.subject %}: {{ it.subject|truncate(200) }}{% endif %}\n{% endfor %}\
     {% set more = body|length - 5 %}\
     {% if more > 0 %}and {{ more }} more event{{ 's' if more != 1 }}{% endif %}\
     {% else %}{{ event }}{% if specversion and body.source %} from {{ body.source }}{% endif %}\
     {% if specversion and subject %}: {{ subject|truncate(200) }}{% endif %}{% endif %}",
)];
