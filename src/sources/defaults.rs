//! The presets' templates for common events: with them a source is useful without any of its own.
//!
//! Used by `texts` when a source is made. In a template `source`, `event` and `body` are the source's name,
//! the event's type and the whole body, whatever members the body has. Texts of providers are cut, since
//! a commit message or a comment may have any length. The first line says what happened. The second is
//! the address of it, if the provider sends one.

mod business;
mod code;
mod operations;

#[cfg(test)]
mod tests;

/// Templates by the pattern of their events, or `default`.
pub type Defaults = &'static [(&'static str, &'static str)];

/// The templates of a preset. None where a provider's events are not known: the message is the body.
pub fn of(preset: &str) -> Defaults {
    match preset {
        "github" => code::GITHUB,
        "gitea" | "forgejo" | "gogs" => code::GITEA,
        "gitlab" => code::GITLAB,
        "bitbucket" => code::BITBUCKET,
        "standard" => business::STANDARD,
        "stripe" => business::STRIPE,
        "shopify" => business::SHOPIFY,
        "slack" => business::SLACK,
        "discord" => business::DISCORD,
        "telegram" => business::TELEGRAM,
        "linear" => business::LINEAR,
        "zoom" => business::ZOOM,
        "grafana" => operations::GRAFANA,
        "alertmanager" => operations::ALERTMANAGER,
        "pagerduty" => operations::PAGERDUTY,
        "sentry" => operations::SENTRY,
        "cloudflare" => operations::CLOUDFLARE,
        "uptime-kuma" => operations::UPTIME_KUMA,
        "eventgrid" => operations::EVENT_GRID,
        "cloudevents" => operations::CLOUD_EVENTS,
        _ => &[],
    }
}
