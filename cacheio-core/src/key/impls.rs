//! Keys of types from the standard library.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{CacheKey, KeyWriter};

impl CacheKey for str {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for String {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        Some(self)
    }
}

macro_rules! forwarding {
    ($(($($generics:tt)*) $pointer:ty;)*) => {$(
        impl<$($generics)*> CacheKey for $pointer {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                (**self).write_key(key);
            }

            #[inline]
            fn as_key_text(&self) -> Option<&str> {
                (**self).as_key_text()
            }
        }
    )*};
}

forwarding! {
    (K: CacheKey + ?Sized) &K;
    (K: CacheKey + ?Sized) &mut K;
    (K: CacheKey + ?Sized) Box<K>;
    (K: CacheKey + ?Sized) Rc<K>;
    (K: CacheKey + ?Sized) Arc<K>;
    (K: CacheKey + ToOwned + ?Sized) Cow<'_, K>;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl CacheKey for $integer {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.integer(*self);
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! non_zero {
    ($($integer:ty)*) => {$(
        impl CacheKey for NonZero<$integer> {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.integer(self.get());
            }
        }
    )*};
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! displayed {
    ($($displayed:ty)*) => {$(
        impl CacheKey for $displayed {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.display(self);
            }
        }
    )*};
}

displayed!(char IpAddr Ipv4Addr Ipv6Addr SocketAddrV4);

impl CacheKey for SocketAddrV6 {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        match self.flowinfo() {
            0 => key.display(self),
            // `Display` leaves it out.
            flow => key.tuple(|parts| {
                let plain = Self::new(*self.ip(), self.port(), 0, self.scope_id());
                parts.part(&plain).part(&flow);
            }),
        }
    }
}

impl CacheKey for SocketAddr {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        match self {
            Self::V4(address) => address.write_key(key),
            Self::V6(address) => address.write_key(key),
        }
    }
}

/// The number of nanoseconds.
impl CacheKey for Duration {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.integer(self.as_nanos());
    }
}

impl CacheKey for OsStr {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        match self.to_str() {
            Some(text) if !text.starts_with("%bytes") => key.text(text),
            _ => {
                key.literal("%bytes");
                for byte in self.as_encoded_bytes() {
                    key.display(format_args!("{byte:02x}"));
                }
            }
        }
    }
}

impl CacheKey for OsString {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_os_str().write_key(key);
    }
}

/// Equal paths make the same key: `a//b` is `a/b`.
impl CacheKey for Path {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        let normal: PathBuf = self.components().collect();
        normal.as_os_str().write_key(key);
    }
}

impl CacheKey for PathBuf {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_path().write_key(key);
    }
}

#[cfg(feature = "uuid")]
displayed!(uuid::Uuid);

impl CacheKey for bool {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(if *self { "true" } else { "false" });
    }
}

impl<K: CacheKey> CacheKey for Option<K> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.option(self.as_ref());
    }
}

impl<K: CacheKey> CacheKey for [K] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.slice(|parts| {
            for part in self {
                parts.part(part);
            }
        });
    }
}

impl<K: CacheKey, const N: usize> CacheKey for [K; N] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl<K: CacheKey> CacheKey for Vec<K> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl CacheKey for () {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.literal("%unit");
    }
}

macro_rules! tuples {
    ($($($part:ident)+;)*) => {$(
        #[allow(non_snake_case)]
        impl<$($part: CacheKey),+> CacheKey for ($($part,)+) {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                let ($($part,)+) = self;
                key.tuple(|parts| {
                    $(parts.part($part);)+
                });
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
}
