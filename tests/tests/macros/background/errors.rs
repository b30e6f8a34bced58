//! Errors and panics of a body in the background.

use super::*;

#[test]
fn each_caller_gets_its_own_error_that_is_not_clone() {
    let origin = Origin::new();
    origin.down.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| origin.not_clone(3)))
            .collect();
        let errors = threads.into_iter().map(|thread| thread.join().unwrap());
        let mut errors: Vec<String> = errors.map(|error| error.unwrap_err().to_string()).collect();
        errors.sort_unstable();
        assert_eq!(errors, ["Down(1)", "Down(2)", "Down(3)", "Down(4)"]);
    });
    origin.down.store(false, Ordering::SeqCst);
    assert_eq!(origin.not_clone(0).unwrap(), 5);
    assert_eq!(origin.not_clone(0).unwrap(), 5);
}

#[test]
fn a_panic_reaches_only_its_caller() {
    #[cached(refresh_ahead = 0.5)]
    fn panics(n: u8) -> u8 {
        assert!(n > 0, "none of {n}");
        n
    }
    let panic = std::thread::spawn(|| panics(0)).join().unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "none of 0");
    assert_eq!(panics(1), 1);
}

#[test]
fn an_error_of_the_cache_becomes_one_of_the_function() {
    #[cached(key = "self", skip(n), ttl = 60)]
    fn circle(n: u8) -> Result<u8, OriginError> {
        circle(n)
    }
    #[cached(key = "self", skip(n), hard_timeout = 60)]
    fn circle_in_background(n: u8) -> Result<u8, OriginError> {
        circle_in_background(n)
    }
    assert_eq!(circle(1), Err(OriginError::Reentrant));
    assert_eq!(circle_in_background(1), Err(OriginError::Reentrant));
}
