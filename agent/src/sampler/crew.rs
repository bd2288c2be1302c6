//! Runs the sensors that are due, one after another on one blocking thread; only when one of them takes long does another
//! thread take over those behind it. A thread for each would be simpler, and each costs a stack, an arena of the allocator and
//! two switches a scrape. What they saw is fetched once all are done, so that the sampler wakes once. Called by the sampler.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use crate::collect::{At, Collector, Context, Row, Sink};

/// How long sensors wait for the one before them; then they are run beside it.
pub(super) const RELIEF: Duration = Duration::from_millis(300);

/// A sensor that is to look.
pub(super) struct Job {
    /// Its place in the schedule.
    pub(super) at: usize,
    pub(super) row: Row,
    pub(super) collector: Box<dyn Collector>,
    pub(super) context: Context,
    pub(super) host: String,
    pub(super) time: At,
    /// When the host was started, by the wall clock that `time` is told by.
    pub(super) booted_ms: i64,
}

/// A sensor that has looked.
pub(super) struct Answer {
    pub(super) at: usize,
    pub(super) collector: Box<dyn Collector>,
    pub(super) sink: Sink,
    pub(super) time: At,
    pub(super) booted_ms: i64,
    /// Processor time that it took.
    pub(super) cost: Duration,
    /// It failed, and this is another one in its place.
    pub(super) is_anew: bool,
}

/// Who runs sensors.
#[derive(Default)]
pub(super) struct Crew(Arc<Shared>);

#[derive(Default)]
struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    answers: Mutex<Vec<Answer>>,
    done: Notify,
}

impl Crew {
    /// Puts sensors to work, in this order.
    pub(super) fn start(&self, jobs: Vec<Job>) {
        lock(&self.0.jobs).extend(jobs);
        self.relieve();
    }

    /// Whether one waits for the one before it.
    pub(super) fn is_waiting(&self) -> bool {
        !lock(&self.0.jobs).is_empty()
    }

    /// Another thread for those who wait.
    pub(super) fn relieve(&self) {
        if self.is_waiting() {
            let shared = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || shared.work());
        }
    }

    /// Ends when there may be answers.
    pub(super) async fn done(&self) {
        self.0.done.notified().await;
    }

    /// The answers so far.
    pub(super) fn answers(&self) -> Vec<Answer> {
        std::mem::take(&mut *lock(&self.0.answers))
    }
}

impl Shared {
    fn work(&self) {
        loop {
            let next = lock(&self.jobs).pop_front();
            let Some(job) = next else { return };
            let answer = job.run();
            lock(&self.answers).push(answer);
            // Whoever takes the last one wakes the sampler, and after that whoever was stuck until now.
            if lock(&self.jobs).is_empty() {
                self.done.notify_one();
            }
        }
    }
}

impl Job {
    fn run(self) -> Answer {
        let Self { at, row, mut collector, context, host, time, booted_ms } = self;
        let mut sink = Sink::new(&host, time);
        let before = thread_time();
        let is_anew = catch_unwind(AssertUnwindSafe(|| collector.collect(time, &mut sink))).is_err();
        if is_anew {
            // A fault of ours: the sensor begins anew, and says that it saw nothing.
            (collector, sink) = ((row.make)(&context), Sink::new(&host, time));
            sink.absent("everything", "the sensor failed, and begins anew; the log says how");
        }
        Answer { at, collector, sink, time, booted_ms, cost: thread_time().saturating_sub(before), is_anew }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread_time() -> Duration {
    processor_time(ClockId::ThreadCPUTime)
}

/// Processor time of this process so far.
pub(super) fn process_time() -> Duration {
    processor_time(ClockId::ProcessCPUTime)
}

fn processor_time(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{COLLECTORS, KeystoreConfig, KnownKeys, ServedConfig};
    use crate::rootfs::RootFs;
    use keyvigil_common::telemetry::Registry;
    use std::sync::mpsc::{Receiver, sync_channel};

    type Look = Box<dyn FnMut() + Send>;

    struct Fake(Look);

    impl Collector for Fake {
        fn collect(&mut self, _at: At, sink: &mut Sink) {
            (self.0)();
            sink.gauge("test.looked", &[], 1.0);
        }
    }

    fn job(at: usize, look: impl FnMut() + Send + 'static) -> Job {
        let (root, keystore, served) = (RootFs::new("/nonexistent"), KeystoreConfig::default(), ServedConfig::default());
        let context = Context {
            root,
            started_ms: 0,
            keystore,
            served,
            known: KnownKeys::default(),
            access: crate::collect::AccessRules::default(),
            probe: crate::collect::Link::new("/nonexistent"),
            canary: crate::canary::Canary::none(),
            registry: Registry::default(),
            waiting: None,
        };
        let time = At { wall_ms: 1, monotonic: Duration::ZERO };
        Job { at, row: COLLECTORS[0], collector: Box::new(Fake(Box::new(look))), context, host: "h".into(), time, booted_ms: 0 }
    }

    /// Blocks until its other end is dropped.
    fn stuck() -> (impl Send + 'static, impl FnMut() + Send + 'static) {
        let (hold, held) = sync_channel::<()>(0);
        let held: Mutex<Receiver<()>> = Mutex::new(held);
        (hold, move || {
            let _ = lock(&held).recv();
        })
    }

    async fn next(crew: &Crew) -> Vec<(usize, usize)> {
        crew.done().await;
        crew.answers().iter().map(|answer| (answer.at, answer.sink.samples.len())).collect()
    }

    #[tokio::test]
    async fn sensors_are_asked_in_order_and_answer_together() {
        let crew = Crew::default();
        crew.start((0..3).map(|at| job(at, || ())).collect());
        assert_eq!(next(&crew).await, [(0, 1), (1, 1), (2, 1)]);
        assert!(!crew.is_waiting());
    }

    #[tokio::test]
    async fn those_behind_one_that_is_stuck_are_asked_by_another_thread() {
        let crew = Crew::default();
        let (hold, wait) = stuck();
        crew.start(vec![job(0, wait), job(1, || ())]);
        while crew.is_waiting() {
            // What the sampler does after a while.
            crew.relieve();
            if next(&crew).await == [(1, 1)] {
                break;
            }
        }
        drop(hold);
        assert_eq!(next(&crew).await, [(0, 1)]);
    }

    #[tokio::test]
    async fn one_that_fails_begins_anew_and_says_that_it_saw_nothing() {
        let crew = Crew::default();
        crew.start(vec![job(0, || panic!("a fault that is expected here")), job(1, || ())]);
        crew.done().await;
        let answers = crew.answers();
        assert_eq!(answers[0].sink.blind.len(), 1);
        assert!(answers[0].sink.samples.is_empty() && answers[1].sink.blind.is_empty());
        assert!(answers[0].is_anew && !answers[1].is_anew);
    }
}
