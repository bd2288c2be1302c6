//! Verbs about keys: the inventory, and what is wrong with it.

use serde_json::Value;

use super::{Client, ClientError, segment};

impl Client {
    /// A page of the inventory; filters as in the API.
    ///
    /// # Errors
    /// Not reachable, or a filter that is not valid.
    pub async fn keys(&self, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get("/keys", filters).await
    }

    /// One key by id or fingerprint.
    ///
    /// # Errors
    /// Not reachable, or not there.
    pub async fn key(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&format!("/keys/{}", segment(id)), &[]).await
    }

    /// Who used a key, and how much, as far as that is observed; `start_time`, `end_time` and `interval` as in the API.
    ///
    /// ```no_run
    /// # async fn example(client: keyvigil_common::client::Client) -> Result<(), keyvigil_common::client::ClientError> {
    /// let usage = client.key_usage("3f2a9c10", &[("start_time", "-7d"), ("interval", "1d")]).await?;
    /// match usage["count"]["uses"]["sign"].as_u64() {
    ///     Some(count) => println!("{count} signatures ({})", usage["observed"]),
    ///     None if usage["count"].is_null() => println!("unknown: nothing observes it"),
    ///     None => println!("no signature was seen"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Not reachable, not there, or a range that is not valid.
    pub async fn key_usage(&self, id: &str, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get(&format!("/keys/{}/usage", segment(id)), filters).await
    }

    /// The inventory as CSV, all rows, piece by piece; filters as of [`Client::keys`].
    ///
    /// # Errors
    /// Not reachable, a filter that is not valid, or `take`'s.
    pub async fn keys_csv(&self, filters: &[(&str, &str)], take: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<(), ClientError> {
        let filters: Vec<(&str, &str)> = filters.iter().copied().chain([("format", "csv")]).collect();
        self.download("/keys", &filters, take).await
    }

    /// The inventory as a CycloneDX CBOM, piece by piece; `version` and `host` as in the API.
    ///
    /// # Errors
    /// Not reachable, a version or host that is not known, or `take`'s.
    pub async fn cbom(&self, filters: &[(&str, &str)], take: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<(), ClientError> {
        self.download("/keys/cbom", filters, take).await
    }

    /// What is wrong with keys, the worst first; filters as in the API.
    ///
    /// # Errors
    /// Not reachable, or a filter that is not valid.
    pub async fn findings(&self, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get("/findings", filters).await
    }
}
