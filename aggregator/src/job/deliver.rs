//! Drains the outbox: at least once, in order for each alert and channel. A notification is marked only after the other
//! side has answered; a process that dies in between sends it again, with the same key.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_common::backoff::random_u64;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::chain;
use tokio::task::JoinSet;

use crate::notify::{Channel, Notification, Notifier, SendError, Settled, settle};
use crate::store::outbox::{self, Waiting};
use crate::store::{Store, StoreError};

/// Notifications tried in one turn.
const TURN_MAX: usize = 100;

/// Tries what is due.
///
/// # Errors
/// What the store says; what a channel says is kept with the notification.
pub async fn deliver(store: Store, clock: SharedClock, channels: Arc<Vec<Channel>>) -> Result<String, String> {
    let now_ms = clock.now_ms();
    let due: Vec<Waiting<Notification>> = store.read(move |connection, ring| outbox::due(connection, ring, now_ms, TURN_MAX)).await.map_err(|e| chain(&e))?;
    let mut by_channel: BTreeMap<String, Vec<Waiting<Notification>>> = BTreeMap::new();
    for waiting in due {
        by_channel.entry(waiting.record.channel.clone()).or_default().push(waiting);
    }
    // A channel that is slow holds up itself only.
    let mut turns = JoinSet::new();
    for queue in by_channel.into_values() {
        let (store, clock, channels) = (store.clone(), Arc::clone(&clock), Arc::clone(&channels));
        turns.spawn(async move {
            let mut sent = 0usize;
            for waiting in queue {
                sent += usize::from(attempt(&store, &clock, &channels, waiting).await.map_err(|e| chain(&e))?);
            }
            Ok::<usize, String>(sent)
        });
    }
    let mut sent = 0;
    while let Some(turn) = turns.join_next().await {
        sent += turn.map_err(|e| e.to_string())??;
    }
    Ok(if sent == 0 { String::new() } else { format!("{sent} notifications delivered") })
}

/// One attempt at one notification; whether it was delivered.
async fn attempt(store: &Store, clock: &SharedClock, channels: &[Channel], waiting: Waiting<Notification>) -> Result<bool, StoreError> {
    let Waiting { id, attempts, record: note } = waiting;
    let result = match channels.iter().find(|c| c.name() == note.channel) {
        Some(channel) => channel.send(&note).await,
        None => Err(SendError::Permanent(format!("channel {} is not configured any more", note.channel))),
    };
    let (attempts, now_ms) = (attempts + 1, clock.now_ms());
    let settled = settle(result, attempts, note.transition.at_ms, now_ms, random_u64());
    let (state, due_ms, error) = match settled {
        Settled::Delivered { .. } => ("sent", now_ms, None),
        Settled::Waiting { next_ms, error } => ("waiting", next_ms, Some(error)),
        Settled::Failed { error } => ("failed", now_ms, Some(error)),
    };
    if let Some(error) = &error {
        tracing::warn!(channel = note.channel, state, error, "notification not delivered");
    }
    store.write(move |tx| tx.settle_notification(id, state, attempts, due_ms, now_ms, error.as_deref())).await?;
    Ok(state == "sent")
}
