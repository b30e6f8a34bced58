#![doc = include_str!("guide.md")]

#[doc = include_str!("guide/slow_database.md")]
pub mod slow_database {}

#[doc = include_str!("guide/calls.md")]
pub mod calls {}

#[doc = include_str!("guide/typed.md")]
pub mod typed {}

#[doc = include_str!("guide/configuration.md")]
pub mod configuration {}

#[doc = include_str!("guide/keys.md")]
pub mod keys {}

#[doc = include_str!("guide/values.md")]
pub mod values {}

#[doc = include_str!("guide/invalidation.md")]
pub mod invalidation {}

#[doc = include_str!("guide/macros.md")]
pub mod macros {}

#[doc = include_str!("guide/failing_origins.md")]
pub mod failing_origins {}

#[doc = include_str!("guide/slow_origins.md")]
pub mod slow_origins {}

#[doc = include_str!("guide/servers.md")]
pub mod servers {}

#[doc = include_str!("guide/two_servers.md")]
pub mod two_servers {}

#[doc = include_str!("guide/restarts.md")]
pub mod restarts {}

#[doc = include_str!("guide/metrics.md")]
pub mod metrics {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/custom_stores.md")]
pub mod custom_stores {}

#[doc = include_str!("guide/speed.md")]
pub mod speed {}

#[doc = include_str!("guide/migration.md")]
pub mod migration {}
