//! The wiring: opens the store, builds the rooms, binds the listeners, starts every task. The only file that does. The
//! clock and the configuration come in as arguments, so that a test owns them.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::config::{Faults, Secret};
use keyvigil_common::process;
use keyvigil_common::seal::{MasterKey, SealError, write_private};
use keyvigil_common::stop::{Stop, StopError, Tasks};
use keyvigil_common::telemetry::{Registry, chain};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::alert;
use crate::authority::{Authority, AuthorityError};
use crate::config::Config;
pub use crate::endpoints::Endpoints;
use crate::enroll::Enroll;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::job::alerts::{Alerts, Parts};
use crate::job::revocation::Revocations;
use crate::job::{self, Job};
use crate::keys::Inventory;
use crate::notify::{self, Channel, Notifier};
use crate::orders::Orders;
use crate::rotation::Rotation;
use crate::serving::{Serving, ServingError};
use crate::store::{self, Limits, Policy, Store, StoreError};
use crate::upkeep::Desk;
use crate::web::listen::{self, Doors, WatchedTls};
use crate::web::{self, App};

const MINUTE: Duration = Duration::from_secs(60);
/// How often the aggregator looks at itself.
const MEASURE: Duration = Duration::from_secs(10);
/// Shorter than systemd's patience.
const DRAIN: Duration = Duration::from_secs(20);

/// A running aggregator.
#[derive(Debug)]
pub struct Running {
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// Its rooms, for tests and for the process itself.
    pub app: App,
    tasks: Tasks,
    _lock: File,
}

impl Running {
    /// Waits until it is told to stop, or a task dies.
    pub async fn stopped(&self) {
        self.tasks.stop().stopped().await;
    }

    /// Stops: doors first, then what was begun, then the store.
    ///
    /// # Errors
    /// Who was late, or which task died.
    pub async fn stop(self) -> Result<(), StopError> {
        let Self { app, tasks, _lock, endpoints } = self;
        if let Err(e) = Endpoints::withdraw(&endpoints.dir) {
            tracing::warn!(error = %e, "endpoints.json stays behind; nobody goes by it");
        }
        let drained = tasks.drain(DRAIN).await;
        drop(app);
        drained
    }
}

/// Starts an aggregator.
///
/// # Errors
/// What cannot be opened, read or bound; then nothing runs.
pub async fn start(config: Config, clock: SharedClock, stop: Stop) -> Result<Running, StartError> {
    let dir = config.storage.path.clone();
    let lock = std::fs::create_dir_all(&dir).and_then(|()| process::lock(&dir)).map_err(|source| StartError::Dir { path: dir.clone(), source })?;
    let lock = lock.ok_or_else(|| StartError::Locked(dir.clone()))?;
    // What one that was killed left behind leads nowhere, or to somebody else by now.
    Endpoints::withdraw(&dir).map_err(|source| StartError::Dir { path: dir.clone(), source })?;
    let channels = Arc::new(notify::channels(&config.smtp, &config.slack).map_err(|faults| StartError::Config(Faults(faults)))?);
    let (app, authority) = build(&config, &dir, &clock, (&stop, &channels)).await?;
    let tasks = Tasks::new(stop);
    let endpoints = open_doors(&config, &app, authority, &tasks).await?;
    let policy = policy(&config, &app.store).await?;
    app.store.keep(&policy);
    for job in jobs(&config, &app, &channels, policy) {
        tasks.spawn(job.name, job.drive(Arc::clone(&clock), tasks.stop().clone()));
    }
    endpoints.publish().map_err(|source| StartError::Dir { path: dir, source })?;
    Ok(Running { endpoints, app, tasks, _lock: lock })
}

/// Opens the store and builds the rooms on it.
async fn build(config: &Config, dir: &Path, clock: &SharedClock, (stop, channels): (&Stop, &[Channel])) -> Result<(App, Arc<Authority>), StartError> {
    let now_ms = clock.now_ms();
    let master = master_key(config)?;
    let limits = Limits { per_tenant: config.limits.series_per_tenant, per_agent: config.limits.series_per_agent };
    let store = Store::open_within(&dir.join("store"), &master, now_ms, config.storage.memory_bytes, limits)?;
    let tenant = store.write(|tx| tx.tenant(crate::tenant::DEFAULT)).await?;
    let (fleet, inventory) = (Arc::new(Fleet::default()), Arc::new(Inventory::default()));
    fleet.load(&store).await?;
    inventory.load(&store).await?;
    fleet.tell(&inventory);
    let authority = Arc::new(Authority::load_or_create(&dir.join("pki"), now_ms)?);
    let registry = Registry::default();
    let life_ms = config.enroll.certificate_life.as_ms();
    let enroll = Enroll::new(store.clone(), Arc::clone(&fleet), Arc::clone(&authority), Arc::clone(clock), life_ms);
    let orders = Arc::new(Orders::new(Arc::clone(&fleet), Arc::clone(&authority)));
    let rotation = Arc::new(Rotation::new(Arc::clone(&authority), Arc::clone(&fleet), Arc::clone(clock), config.enroll.grace.as_ms(), &registry));
    let ingest = Ingest::new(store.clone(), Arc::clone(&fleet), Arc::clone(&inventory), orders, Arc::clone(clock), &registry);
    let alerts = Alerts::load(Parts {
        store: store.clone(),
        inventory: Arc::clone(&inventory),
        fleet: Arc::clone(&fleet),
        clock: Arc::clone(clock),
        tenant,
        interval_ms: config.alerts.interval.as_ms(),
        targets: channels.iter().map(Channel::target).collect(),
        outbox: Arc::new(Notify::new()),
        rules: rules(config),
        registry: registry.clone(),
    })
    .await?;
    let (held, ledger, time) = (Arc::clone(&inventory), store.clone(), Arc::clone(clock));
    let revocations = Revocations::new(&config.revocation, ledger, held, time, tenant, &registry);
    let app = App {
        store,
        revocations: Arc::new(revocations.map_err(|fault| StartError::Config(Faults(vec![fault])))?),
        ingest,
        enroll,
        fleet,
        rotation,
        inventory,
        alerts: Arc::new(alerts),
        clock: Arc::clone(clock),
        stop: stop.clone(),
        tenant,
        admin_token: admin_token(config, dir)?,
        // With a proxy in front every request comes from loopback.
        open_on_loopback: config.api.open_on_loopback && config.listen.tls != "external",
        advertise: config.listen.advertise.clone(),
        channels: channels.iter().map(|c| c.name().to_owned()).collect(),
        started_ms: now_ms,
        upkeep: Desk::default(),
        auth_failures: registry.counter("security.auth_failures_total", "Failed attempts to authenticate to the aggregator."),
        registry,
    };
    Ok((app, authority))
}

/// Where the master key lies: in the configured file, or beside the state.
pub(crate) fn master_key_file(config: &Config) -> PathBuf {
    let storage = &config.storage;
    if storage.master_key_file.as_os_str().is_empty() { storage.path.join("master.key") } else { storage.master_key_file.clone() }
}

/// The master key, made at first start.
pub(crate) fn master_key(config: &Config) -> Result<MasterKey, StartError> {
    Ok(MasterKey::load_or_create(&master_key_file(config))?)
}

fn rules(config: &Config) -> Vec<alert::Rule> {
    let shipped = if config.alerts.shipped { alert::shipped() } else { Vec::new() };
    let of_file = config.alerts.rules.iter().cloned().map(|rule| alert::Rule { origin: alert::Origin::File, ..rule });
    shipped.into_iter().chain(of_file).collect()
}

/// The configured token, or the one in `admin.token`, made at first start.
fn admin_token(config: &Config, dir: &Path) -> Result<Secret, StartError> {
    if !config.api.admin_token.is_empty() {
        return Ok(config.api.admin_token.clone());
    }
    let path = dir.join("admin.token");
    let io = |source| StartError::Dir { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 32 => Ok(Secret::from(text.trim())),
        Ok(_) => Err(io(std::io::Error::other("the admin token in it is too short: remove the file to have a new one made"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let token = format!("kva_{}", keyvigil_common::hex(&keyvigil_common::random::<32>()));
            write_private(&path, token.as_bytes()).map_err(io)?;
            Ok(Secret::from(token.as_str()))
        }
        Err(e) => Err(io(e)),
    }
}

/// Binds the four listeners and starts serving.
async fn open_doors(config: &Config, app: &App, authority: Arc<Authority>, tasks: &Tasks) -> Result<Endpoints, StartError> {
    let dir = config.storage.path.clone();
    let listen = &config.listen;
    let bound = [bind(&listen.api).await?, bind(&listen.ingest).await?, bind(&listen.metrics).await?, bind(&listen.health).await?];
    let [api, ingest, metrics, health] = bound.map(|listener| (listener.local_addr(), listener));
    let mut names = host_names(config);
    names.extend([&api.0, &ingest.0].into_iter().flatten().filter(|a| !a.ip().is_unspecified()).map(|a| a.ip().to_string()));
    names.sort();
    names.dedup();
    let serving = Serving::new(authority, names.clone(), config.enroll.grace.0, Arc::clone(&app.clock))?;
    let served = Doors::new(Arc::clone(&app.clock), app.registry.clone());
    let mut urls = Vec::new();
    let mut app = app.clone();
    app.open_on_loopback &= api.0.as_ref().is_ok_and(|address| address.ip().is_loopback());
    if app.advertise.is_empty() {
        app.advertise = advertised(ingest.0.as_ref().map_err(|e| StartError::Bind(listen.ingest.clone(), e.to_string()))?, &names);
    }
    let doors = [
        ("api", api, web::api(app.clone()), &listen.api),
        ("metrics", metrics, web::metrics(app.clone()), &listen.metrics),
        ("health", health, web::health(app.clone()), &listen.health),
    ];
    for (name, (address, listener), router, wanted) in doors {
        let address = address.map_err(|e| StartError::Bind(wanted.clone(), e.to_string()))?;
        // Plain text only where nobody can listen in; a proxy in front is the administrator's word.
        let plain = address.ip().is_loopback() || listen.tls == "external";
        let tls: WatchedTls = (!plain).then(|| serving.web());
        urls.push(format!("{}://{}", if plain { "http" } else { "https" }, from_here(address)));
        tasks.spawn(name, served.clone().serve(name, listener, tls, router, listen::CONNECTION_LIFE, tasks.clone()));
    }
    let address = ingest.0.map_err(|e| StartError::Bind(listen.ingest.clone(), e.to_string()))?;
    let agents = served.serve("ingest", ingest.1, Some(serving.ingest()), web::ingest(app.clone()), listen::AGENT_CONNECTION_LIFE, tasks.clone());
    tasks.spawn("ingest", agents);
    tasks.spawn("renew", serving.renew(tasks.stop().clone()));
    let [url, metrics, health] = urls.try_into().unwrap_or_default();
    Ok(Endpoints {
        url,
        ingest_url: format!("https://{}", from_here(address)),
        metrics_url: format!("{metrics}/metrics"),
        health_url: format!("{health}/health"),
        admin_token: app.admin_token.expose().to_owned(),
        dir,
    })
}

async fn bind(address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|e| StartError::Bind(address.to_owned(), e.to_string()))
}

/// Where a program on this host reaches a listener.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names and addresses that stand in the aggregator's certificate.
fn host_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    names.push(host_name());
    names.extend(config.listen.advertise.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned()));
    names.retain(|n| !n.is_empty());
    names
}

/// What join tokens say: the listener's address if it is on loopback, else this host's name.
fn advertised(address: &SocketAddr, names: &[String]) -> String {
    let own = names.iter().find(|n| *n != "localhost" && n.parse::<std::net::IpAddr>().is_err());
    match own {
        Some(name) if address.ip().is_unspecified() => format!("{name}:{}", address.port()),
        _ => address.to_string(),
    }
}

/// How long what is kept.
async fn policy(config: &Config, store: &Store) -> Result<Policy, StartError> {
    let mut policy = Policy { default: config.storage.keep(), rules: Vec::new() };
    for rule in &config.storage.retention {
        let name = rule.tenant.clone().unwrap_or_else(|| crate::tenant::DEFAULT.to_owned());
        let tenant = store.write(move |tx| tx.tenant(&name)).await?;
        let selector = rule.selector().map_err(|fault| StartError::Config(Faults(vec![fault])))?;
        policy.rules.push(store::Rule { tenant, selector, keep: rule.keep(policy.default) });
    }
    Ok(policy)
}

/// All chores.
fn jobs(config: &Config, app: &App, channels: &Arc<Vec<Channel>>, policy: Policy) -> Vec<Job> {
    let failures = |name| app.registry.counter_by("keyvigil.job.failures_total", "Turns of a chore that failed.", ("job", name));
    let (store, clock, quiet) = (app.store.clone(), Arc::clone(&app.clock), || Arc::new(Notify::new()));
    let (rules, ingest, registry) = (Arc::clone(&app.alerts), app.ingest.clone(), app.registry.clone());
    let of_events = Arc::clone(&app.alerts);
    let (rotation, revocations) = (Arc::clone(&app.rotation), Arc::clone(&app.revocations));
    let revoke_now = Arc::new(Notify::new());
    // The first turn at once: what was revoked while the aggregator was away is old news already.
    revoke_now.notify_one();
    let (tenant, host, started_ms) = (app.tenant, host_name(), app.started_ms);
    let series = app.registry.gauge_by("keyvigil.storage.series", "Series held.", ("tenant", crate::tenant::DEFAULT));
    let flush_now = store.full();
    let (s1, s2, s3, s4, s5) = (store.clone(), store.clone(), store.clone(), store.clone(), store);
    let (c1, c2, c3) = (Arc::clone(&clock), Arc::clone(&clock), clock);
    let (channels, policy) = (Arc::clone(channels), Arc::new(policy));
    vec![
        Job::new("rules", config.alerts.interval.0, quiet(), failures("rules"), move || {
            let rules = Arc::clone(&rules);
            async move { rules.evaluate().await }
        }),
        Job::new("events", config.alerts.interval.0, app.ingest.happened(), failures("events"), move || {
            let rules = Arc::clone(&of_events);
            async move { rules.evaluate_events().await }
        }),
        Job::new("deliver", Duration::from_secs(1), app.alerts.outbox(), failures("deliver"), move || {
            job::deliver(s1.clone(), Arc::clone(&c1), Arc::clone(&channels))
        }),
        Job::new("revocation", MINUTE.min(config.revocation.interval.0), revoke_now, failures("revocation"), move || {
            let revocations = Arc::clone(&revocations);
            async move { revocations.run().await }
        }),
        Job::new("flush", config.storage.flush_interval.0, flush_now, failures("flush"), move || job::flush(s2.clone())),
        Job::new("merge", 10 * MINUTE, quiet(), failures("merge"), move || job::merge(s3.clone(), Arc::clone(&c2))),
        Job::new("retain", 60 * MINUTE, quiet(), failures("retain"), move || job::retain(s4.clone(), Arc::clone(&c3), Arc::clone(&policy))),
        Job::new("measure", MEASURE, quiet(), failures("measure"), move || {
            series.set(s5.index().per_tenant_len(tenant) as u64);
            rotation.measure();
            let (ingest, registry, host) = (ingest.clone(), registry.clone(), host.clone());
            async move {
                ingest.measure();
                ingest.push_own(tenant, &registry, &host, started_ms).await.map(|()| String::new()).map_err(|e| chain(&e))
            }
        }),
    ]
}

/// Why the aggregator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// State directory or a file in it.
    #[error("cannot use {path}", path = path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another aggregator works here.
    #[error("{path} is in use by another aggregator: stop it, or name another directory with --dir", path = .0.display())]
    Locked(PathBuf),
    /// An address that cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Bind(String, String),
    /// Configuration.
    #[error("{0}")]
    Config(Faults),
    /// Store.
    #[error("store")]
    Store(#[from] StoreError),
    /// Master key.
    #[error("master key")]
    Seal(#[from] SealError),
    /// CA.
    #[error("certificate authority")]
    Authority(#[from] AuthorityError),
    /// Certificates of the listeners.
    #[error(transparent)]
    Serving(#[from] ServingError),
}
