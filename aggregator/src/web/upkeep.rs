//! `/api/v1/admin/maintenance`: work on the whole store. The answer is a line a step while it goes on, and last a line with
//! what became of it. The work lives in the answer's body: who hangs up ends it, within a block or after the day in hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body as Answer, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as Chunks, Frame};
use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::chain;
use tokio::sync::mpsc;

use super::App;
use super::body::Body;
use super::problem::Problem;
use crate::store::{Progress, Step, StoreError};
use crate::upkeep::{self, Line, Order, Request, Task, Turn};

/// Least time between two steps that are told.
const PACE: Duration = Duration::from_millis(100);
/// Steps that wait for who reads slowly; more are dropped.
const STEPS_MAX: usize = 4;

/// Takes work on.
pub(super) async fn start(State(app): State<App>, Body(request): Body<Request>) -> Result<Response, Problem> {
    let order = request.order(app.clock.now_ms()).map_err(Problem::bad_request)?;
    let turn = app.upkeep.take(order.task).map_err(|other| {
        let detail = format!("{} is at work: one such task at a time", other.as_str());
        Problem::new(StatusCode::CONFLICT, detail).with("code", "busy").with("task", other.as_str())
    })?;
    let lines = Lines::new(app, order, turn);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Answer::new(lines)).into_response())
}

/// The work, and what it tells.
struct Lines {
    task: Task,
    work: Pin<Box<dyn Future<Output = Line> + Send>>,
    steps: mpsc::Receiver<Step>,
    over: bool,
    /// Set when this is dropped.
    gone: Arc<AtomicBool>,
}

impl Lines {
    fn new(app: App, order: Order, turn: Turn) -> Self {
        let (tell, steps) = mpsc::channel(STEPS_MAX);
        let gone = Arc::new(AtomicBool::new(false));
        let pace = Pace { clock: Arc::clone(&app.clock), told: Mutex::new(None) };
        let progress = Progress::new(Arc::clone(&gone), move |step| {
            // The turn ends with the last hold on this: work on a blocking thread goes on when its asker has gone.
            let _ = &turn;
            if pace.is_due() {
                let _ = tell.try_send(step);
            }
        });
        let task = order.task;
        let work = Box::pin(async move {
            tracing::info!(task = task.as_str(), "maintenance begins");
            match upkeep::run(&app.store, order, &progress).await {
                Ok(report) => {
                    tracing::info!(task = task.as_str(), good = report.is_good(), "maintenance is done");
                    Line::Result(report)
                }
                Err(e) => {
                    if !matches!(e, StoreError::Gone) {
                        tracing::error!(task = task.as_str(), error = chain(&e), "maintenance failed");
                    }
                    Line::Fault(chain(&e))
                }
            }
        });
        Self { task, work, steps, over: false, gone }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.over {
            tracing::info!(task = self.task.as_str(), "whoever asked for maintenance has gone: it stops");
        }
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Chunks for Lines {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let line = match self.steps.poll_recv(cx) {
            Poll::Ready(Some(step)) => Line::Progress { task: self.task, step },
            Poll::Ready(None) | Poll::Pending => {
                let last = ready!(self.work.as_mut().poll(cx));
                self.over = true;
                last
            }
        };
        let text = serde_json::to_vec(&line).map(|mut text| {
            text.push(b'\n');
            Frame::data(text.into())
        });
        Poll::Ready(Some(text))
    }
}

/// Drops what comes too soon after the last.
struct Pace {
    clock: SharedClock,
    told: Mutex<Option<Duration>>,
}

impl Pace {
    fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| now.saturating_sub(at) >= PACE);
        if due {
            *told = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use keyvigil_common::clock::ManualClock;

    fn step(done: u64) -> Step {
        Step { step: "main.db".into(), done, total: 9, unit: "records".into() }
    }

    #[tokio::test]
    async fn steps_come_as_lines_and_what_became_of_it_is_the_last() {
        let (tell, steps) = mpsc::channel(STEPS_MAX);
        let work = Box::pin(async move {
            tell.send(step(1)).await.unwrap();
            tokio::task::yield_now().await;
            tell.send(step(2)).await.unwrap();
            tokio::task::yield_now().await;
            Line::Fault("why".into())
        });
        let lines = Lines { task: Task::Verify, work, steps, over: false, gone: Arc::default() };
        let bytes = lines.collect().await.unwrap().to_bytes();
        let read: Vec<Line> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        let progress = |done| Line::Progress { task: Task::Verify, step: step(done) };
        assert_eq!(read, [progress(1), progress(2), Line::Fault("why".into())]);
    }

    #[tokio::test]
    async fn whoever_hangs_up_ends_the_work() {
        let (_tell, steps) = mpsc::channel(STEPS_MAX);
        let gone = Arc::new(AtomicBool::new(false));
        drop(Lines { task: Task::Verify, work: Box::pin(std::future::pending()), steps, over: false, gone: Arc::clone(&gone) });
        assert!(gone.load(Ordering::Relaxed));
    }

    #[test]
    fn of_many_steps_few_are_told() {
        let clock = ManualClock::at(0);
        let pace = Pace { clock: Arc::clone(&clock) as SharedClock, told: Mutex::new(None) };
        let mut told = 0;
        for _ in 0..100 {
            told += usize::from(pace.is_due());
            clock.advance(Duration::from_millis(10));
        }
        assert_eq!(told, 10);
    }
}
