//! The settings of a cache, as they stand in a configuration file.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error as DeError, MapAccess, Visitor};

use crate::config::url::CacheUrl;
use crate::{Error, Result};

/// The settings of a cache from a configuration file: the URL of its store, and the parameters of the
/// URL under their names.
///
/// It deserializes from every format with maps, through whatever reads the configuration of a program,
/// such as `config`, `figment` or `toml`:
///
/// ```toml
/// [cache]
/// url = "redis://cache:6379"
/// namespace = "shop"
/// ttl = "5m"
/// jitter = 0.1
/// l1 = 10000
/// ```
///
/// ```
/// use cacheio::{Cache, Settings};
///
/// #[derive(serde::Deserialize)]
/// struct Configuration {
///     cache: Settings,
/// }
///
/// let file = r#"{"cache": {"url": "memory://", "namespace": "shop", "ttl": "5m", "capacity": 10000}}"#;
/// let configuration: Configuration = serde_json::from_str(file)?;
/// let cache = Cache::from_settings(&configuration.cache)?;
/// assert_eq!(cache.namespace(), "shop");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A value is a text, a number or a boolean. Which parameters there are depends on the store:
/// `Cache::from_url` lists them. An unknown one is an error when the cache is built. A parameter may
/// also stand in the URL, but not in both.
///
/// The URL may hold a password, so neither `Debug` nor errors show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    url: String,
    parameters: Vec<(String, String)>,
}

impl Settings {
    /// Creates the settings of a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            parameters: Vec::new(),
        }
    }

    /// Adds a parameter, such as `ttl` with the value `5m`.
    ///
    /// ```
    /// use cacheio::{Cache, Settings};
    ///
    /// let settings = Settings::new("memory://").with("ttl", "5m").with("capacity", 10_000);
    /// let cache = Cache::from_settings(&settings)?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.parameters.push((name.into(), value.to_string()));
        self
    }

    /// Returns the URL with all parameters.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) when the text is not a URL.
    #[doc(hidden)]
    pub fn __url(&self) -> Result<CacheUrl<'_>, Error> {
        let mut url = CacheUrl::parse(&self.url)?;
        url.add(&self.parameters);
        Ok(url)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets as well as the URL.
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("parameters", &names)
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // With `deserialize_map`, some formats show a text that is no map.
        deserializer.deserialize_any(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings of a cache: `url`, and parameters of the URL")
    }

    /// The default of this method would show the text, which may be a URL with a password.
    fn visit_str<E: DeError>(self, _: &str) -> Result<Settings, E> {
        Err(E::custom(
            "the settings of a cache are a section, not a text; write a URL as `url` in it",
        ))
    }

    /// So would this one.
    fn visit_bytes<E: DeError>(self, _: &[u8]) -> Result<Settings, E> {
        self.visit_str("")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut url = None;
        let mut parameters: Vec<(String, String)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let Parameter(value) = map.next_value()?;
            if name != "url" {
                parameters.push((name, value));
            } else if url.replace(value).is_some() {
                return Err(A::Error::duplicate_field("url"));
            }
        }
        let url = url.ok_or_else(|| A::Error::missing_field("url"))?;
        Ok(Settings { url, parameters })
    }
}

/// A value, as the text that it has in a URL.
struct Parameter(String);

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

struct ParameterVisitor;

impl Visitor<'_> for ParameterVisitor {
    type Value = Parameter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<Parameter, E> {
        Ok(Parameter(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parameter, E> {
        Ok(Parameter(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parameter, E> {
        Ok(Parameter(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter(value.to_string()))
    }
}
