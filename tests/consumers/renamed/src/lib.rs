//! The macros in a crate that renames its dependency on `cacheio`, and with a re-export.

#![cfg(test)]

mod renamed {
    use larder::{AsyncCache, AsyncCacheable, Cache, CacheFactory, CacheKey, Cacheable, cached};

    #[derive(CacheKey)]
    struct Id(u32);

    #[derive(Cacheable, AsyncCacheable)]
    struct Service {
        cache: Cache,
        #[async_cache]
        async_cache: AsyncCache,
    }

    impl Service {
        #[cached(key = "user:{id}")]
        fn find(&self, id: Id) -> u32 {
            id.0
        }

        #[cached(key = "user:{id}")]
        async fn find_async(&self, id: Id) -> u32 {
            id.0
        }
    }

    #[cached]
    fn square(n: u64) -> u64 {
        n * n
    }

    #[tokio::test]
    async fn a_renamed_dependency_is_found() {
        let service = Service {
            cache: CacheFactory::memory_cache(),
            async_cache: CacheFactory::async_memory_cache(),
        };
        assert_eq!(
            (service.find(Id(7)), service.find_async(Id(8)).await),
            (7, 8)
        );
        assert!(
            service.cache.has("user:7").unwrap()
                && service.async_cache.has("user:8").await.unwrap()
        );
        assert_eq!((square(3), square(3)), (9, 9));
    }
}

mod framework {
    pub(crate) use larder as cacheio;
}

mod reexported {
    use crate::framework::cacheio::{
        AsyncCache, AsyncCacheable, CacheFactory, CacheKey, Cacheable, cached,
    };

    #[derive(CacheKey)]
    #[cacheio(crate = crate::framework::cacheio)]
    struct Id(u32);

    #[derive(AsyncCacheable)]
    #[cacheio(crate = "crate::framework::cacheio")]
    struct AsyncService(#[cache] AsyncCache);

    #[derive(Cacheable)]
    #[cacheio(crate = crate::framework::cacheio)]
    struct SyncService(#[cache] crate::framework::cacheio::Cache);

    impl AsyncService {
        #[cached(crate = crate::framework::cacheio, key = "user:{id}")]
        async fn find(&self, id: Id) -> u32 {
            id.0
        }
    }

    impl SyncService {
        #[cached(crate = crate::framework::cacheio, key = "user:{id}")]
        fn find(&self, id: Id) -> u32 {
            id.0
        }
    }

    #[tokio::test]
    async fn a_reexport_is_named_by_crate() {
        assert_eq!(
            AsyncService(CacheFactory::async_memory_cache())
                .find(Id(7))
                .await,
            7
        );
        assert_eq!(SyncService(CacheFactory::memory_cache()).find(Id(7)), 7);
    }
}
