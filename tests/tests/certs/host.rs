//! An aggregator and hosts whose time is the test's, on links that can be cut.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyvigil_agent::buffer::Buffer;
use keyvigil_agent::config::Config as AgentConfig;
use keyvigil_agent::http::{Answer, Connection, Dialer, HttpError, Stream};
use keyvigil_agent::identity::{Identity, NewKey};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::standing::Trouble;
use keyvigil_agent::{enroll, run};
use keyvigil_aggregator::config::Config;
use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::{Clock, ManualClock, SharedClock};
use keyvigil_common::config::Period;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_tests::harness::{Harness, manual_clock, until};
use keyvigil_tests::host::small_host;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A clock that the test moves.
#[derive(Debug, Clone)]
pub(crate) struct Time(pub(crate) Arc<ManualClock>);

impl Time {
    pub(crate) fn now(&self) -> i64 {
        self.0.now_ms()
    }

    pub(crate) fn step(&self, by_ms: i64) {
        self.0.step_wall_ms(by_ms);
    }

    pub(crate) fn shared(&self) -> SharedClock {
        Arc::<ManualClock>::clone(&self.0)
    }
}

/// An aggregator and its time.
pub(crate) struct World {
    pub(crate) harness: Harness,
    pub(crate) clock: Time,
    own: Mutex<Vec<Time>>,
}

/// The way from a host to the aggregator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    address: Arc<Mutex<String>>,
    cut: Arc<AtomicBool>,
}

impl Way {
    pub(crate) fn lead_to(&self, address: &str) {
        address.clone_into(&mut self.address.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }

    pub(crate) fn dialer(&self) -> Dialer {
        let this = self.clone();
        Dialer::new(move |_| {
            let this = this.clone();
            async move {
                let address = this.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if this.cut.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Stream>)
            }
        })
    }
}

impl World {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let clock = Time(manual_clock());
        let harness = Harness::with(clock.shared(), change).await;
        Self { harness, clock, own: Mutex::default() }
    }

    /// Kills no data: stops and starts the aggregator, and leads the hosts to its new address.
    pub(crate) async fn restart(&mut self, hosts: &[&Host]) {
        self.harness.restart().await;
        hosts.iter().for_each(|host| host.link.lead_to(&self.harness.ingest_address()));
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.0.advance(by);
        self.own.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|clock| clock.0.advance(by));
    }

    /// Asks until it is so, while time goes on a second with each question.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut look: impl FnMut() -> F) -> T {
        until(what, || {
            self.advance(Duration::from_secs(1));
            look()
        })
        .await
    }

    pub(crate) fn client(&self) -> Client {
        self.harness.client()
    }

    pub(crate) async fn token(&self) -> String {
        self.harness.token().await
    }

    pub(crate) async fn ca(&self) -> Option<Value> {
        self.client().ca().await.ok()
    }

    pub(crate) async fn gaps(&self) -> Value {
        self.client().gaps(&[]).await.expect("gaps")["gaps"].clone()
    }

    /// The time between the two newest samples of load and of memory, ms.
    pub(crate) async fn load_and_memory(&self) -> Option<(i64, i64)> {
        let client = self.client();
        Some((last_interval_ms(&client, "system.load.1m").await?, last_interval_ms(&client, "system.memory.usage_percent").await?))
    }

    pub(crate) async fn host(&self, name: &str) -> Host {
        self.host_with(name, &self.token().await).await
    }

    pub(crate) async fn host_with(&self, name: &str, token: &str) -> Host {
        Host::join(self, name, token, self.clock.clone()).await
    }

    /// A host whose clock is not the aggregator's, and goes as fast.
    pub(crate) async fn host_of_its_own_time(&self, name: &str) -> Host {
        let clock = Time(ManualClock::at(self.clock.now()));
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(clock.clone());
        Host::join(self, name, &self.token().await, clock).await
    }

    async fn post_with(&self, identity: &Identity, path: &str, body: Vec<u8>) -> Result<Answer, HttpError> {
        let (clock, tasks) = (self.clock.shared(), Tasks::new(Stop::new()));
        let config = identity.tls(&clock).expect("TLS");
        let mut connection = Connection::open(&Dialer::tcp(), &self.harness.ingest_address(), config, &tasks).await?;
        connection.post(path, "application/json", body).await
    }

    pub(crate) async fn renew_with(&self, identity: &Identity) -> Result<Answer, HttpError> {
        let key = NewKey::generate().expect("a key");
        self.post_with(identity, "/v1/renew", json!({"csr": key.csr}).to_string().into_bytes()).await
    }

    pub(crate) async fn push_with(&self, identity: &Identity) -> Result<Answer, HttpError> {
        self.post_with(identity, "/v1/push", Vec::new()).await
    }
}

/// A host with an agent that has joined.
pub(crate) struct Host {
    pub(crate) clock: Time,
    pub(crate) config: AgentConfig,
    pub(crate) link: Way,
    name: String,
    running: Option<run::Running>,
    last: (u64, u64),
}

impl Host {
    async fn join(world: &World, name: &str, token: &str, clock: Time) -> Self {
        let root = small_host(&world.harness.dir(&format!("{name}-root")));
        let mut config = world.harness.agent_config(name, &root);
        let second = (Period::seconds(1), Period::seconds(1));
        config.sampling.intervals.values_mut().for_each(|interval| *interval = second);
        let host = Self { clock, config, link: Way::default(), name: name.to_owned(), running: None, last: (0, 0) };
        host.link.lead_to(&world.harness.ingest_address());
        host.join_with(token).await;
        host
    }

    async fn join_with(&self, token: &str) {
        let (root, token) = (RootFs::new(&self.config.root), token.parse().expect("a token"));
        enroll::join(&token, &self.config.state_dir, &root, &self.name, &self.link.dialer(), &self.clock.shared()).await.expect("it joins");
    }

    /// As an operator does, beside the running agent.
    pub(crate) async fn rejoin(&self, world: &World) {
        self.join_with(&world.token().await).await;
    }

    pub(crate) fn slow(&mut self, sensor: &str) {
        self.config.sampling.intervals.insert(sensor.to_owned(), (Period::seconds(5), Period::seconds(60)));
    }

    pub(crate) fn run(&mut self) {
        self.running = Some(run::start(&self.config, self.clock.shared(), self.link.dialer(), &Stop::new()).expect("the agent starts"));
    }

    pub(crate) fn run_to(&mut self, world: &World) {
        self.link.lead_to(&world.harness.ingest_address());
        self.run();
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let level = running.buffer.level();
            self.last = (level.batches, level.last_seq);
            running.stop().await.expect("a clean end");
        }
    }

    /// What waits, while the agent runs.
    pub(crate) fn buffer(&self) -> Option<Buffer> {
        Some(self.running.as_ref()?.buffer.clone())
    }

    fn level(&self) -> (u64, u64) {
        let running = self.buffer().map(|buffer| buffer.level());
        running.map_or(self.last, |level| (level.batches, level.last_seq))
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.level().0
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.level().1
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::load(&self.config.state_dir).expect("it can be read").expect("it is there")
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.running.as_ref()?.board.read().trouble
    }

    /// The cursor, once the aggregator has everything that was sealed up to now.
    pub(crate) async fn delivered(&self, world: &World) -> Option<u64> {
        let last = self.last_seq();
        let hosts = world.client().hosts().await.ok()?;
        let own = hosts["hosts"].as_array()?.iter().find(|h| h["host"] == self.name.as_str())?;
        own["cursor"].as_u64().filter(|cursor| *cursor > 0 && *cursor >= last)
    }
}

async fn last_interval_ms(client: &Client, metric: &str) -> Option<i64> {
    let query = Query { metric_pattern: metric.into(), start_time: Some("-1h".into()), ..Query::default() };
    let answer = client.query_metrics(&query).await.ok()?;
    let [.., (before, _), (last, _)] = &answer.series.first()?.points[..] else { return None };
    Some(last - before)
}
