//! The stack of nested loads.

use std::future::{Future, poll_fn};
use std::pin::pin;

use self::switch::grow;

/// Polls a loader with enough room on the stack, on another stack if necessary: a cached function
/// that calls itself runs many loaders within each other.
pub(super) async fn with_enough_stack<F: Future>(loader: F) -> F::Output {
    let mut loader = pin!(loader);
    poll_fn(|context| grow(|| loader.as_mut().poll(context))).await
}

/// The model checker runs threads on stacks of its own, and `corosensei` does not support all platforms.
#[cfg(not(all(not(shuttle), any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod switch {
    pub(super) fn grow<T>(call: impl FnOnce() -> T) -> T {
        call()
    }
}

#[cfg(all(not(shuttle), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod switch {
    use std::cell::Cell;

    use corosensei::on_stack;
    use corosensei::stack::{DefaultStack, Stack as _};

    /// How many bytes of the thread's own stack the loaders take at most.
    const OWN: usize = 256 << 10;

    /// The size of the further stacks, in bytes. Only the part that is used takes memory.
    const FURTHER: usize = 64 << 20;

    /// How many bytes of a further stack are left to the innermost loader at least: as many as most
    /// threads have.
    const ROOM: usize = 8 << 20;

    thread_local! {
        /// The part of the stack in which the loaders of this thread may start others. `None` while
        /// no loader runs.
        static RANGE: Cell<Option<Range>> = const { Cell::new(None) };
    }

    /// Addresses of a stack. It grows to lower ones.
    #[derive(Clone, Copy)]
    struct Range {
        start: usize,
        end: usize,
    }

    /// Restores the range of the loader around this one.
    struct Restore(Option<Range>);

    impl Drop for Restore {
        fn drop(&mut self) {
            RANGE.set(self.0);
        }
    }

    /// Calls a function on this stack, or on a further one if the loaders around it have filled this.
    pub(super) fn grow<T>(call: impl FnOnce() -> T) -> T {
        let marker = 0_u8;
        let here = std::ptr::from_ref(&marker).addr();
        // The range is also left where a coroutine of the program runs on a stack of its own.
        let range = match RANGE.get() {
            Some(range) if (range.start..=range.end).contains(&here) => return call(),
            None => Range {
                start: here.saturating_sub(OWN),
                end: here,
            },
            Some(_) => {
                // Without memory for a further stack, this one may still suffice.
                let Ok(stack) = DefaultStack::new(FURTHER) else {
                    return call();
                };
                let range = Range {
                    start: stack.limit().get() + ROOM,
                    end: stack.base().get(),
                };
                let _restore = Restore(RANGE.replace(Some(range)));
                return on_stack(stack, call);
            }
        };
        let _restore = Restore(RANGE.replace(Some(range)));
        call()
    }
}
