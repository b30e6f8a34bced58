//! What runs after a publication.
//!
//! While the value of a load is being stored, writes of its key wait. Code of the user that uses the cache must not
//! run then: two threads could wait for the publications of each other. So a store passes it to
//! [`after_publication`].

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;

use super::sync::thread_local;

type Task = Box<dyn FnOnce() + Send + Sync>;

thread_local! {
    /// What has to wait for the publication that this thread is making; `None` if it makes none.
    static TASKS: RefCell<Option<Vec<Task>>> = const { RefCell::new(None) };
}

/// Runs a task that may use the cache: now or, if this thread is storing the value of a load, when the flight has
/// completed.
pub fn after_publication(task: impl FnOnce() + Send + Sync + 'static) {
    let mut task = Some(task);
    // While a thread exits, its thread-locals may be destroyed.
    let _ = TASKS.try_with(|tasks| {
        if let Some(tasks) = &mut *tasks.borrow_mut()
            && let Some(task) = task.take()
        {
            tasks.push(Box::new(task));
        }
    });
    if let Some(task) = task {
        task();
    }
}

/// Runs a publication. Returns what has to be [run](AfterPublication::run) when its flights have completed.
pub(crate) async fn publishing(store: impl Future<Output = ()>) -> AfterPublication {
    let mut after = AfterPublication::default();
    let mut store = pin!(store);
    poll_fn(|context| {
        let _collecting = Collecting::begin(&mut after.0);
        store.as_mut().poll(context)
    })
    .await;
    after
}

/// What runs after a publication.
#[derive(Default)]
pub(crate) struct AfterPublication(Vec<Task>);

impl AfterPublication {
    /// Runs the tasks. This thread must not lead any of the flights.
    pub(crate) fn run(self) {
        for task in self.0 {
            // Code of the user may make a publication within another one, when it drops a value.
            after_publication(task);
        }
    }
}

impl fmt::Debug for AfterPublication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AfterPublication").finish()
    }
}

/// Collects the tasks of this thread until it is dropped.
struct Collecting<'a> {
    tasks: &'a mut Vec<Task>,
    around: Option<Vec<Task>>,
}

impl<'a> Collecting<'a> {
    fn begin(tasks: &'a mut Vec<Task>) -> Self {
        let collected = Some(mem::take(tasks));
        let around = TASKS.try_with(|current| current.replace(collected));
        Self {
            tasks,
            around: around.unwrap_or_default(),
        }
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        let around = self.around.take();
        let collected = TASKS.try_with(|current| current.replace(around));
        *self.tasks = collected.unwrap_or_default().unwrap_or_default();
    }
}
