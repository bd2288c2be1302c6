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

    /// What is observed of a key's use.
    ///
    /// # Errors
    /// Not reachable, or not there.
    pub async fn key_usage(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&format!("/keys/{}/usage", segment(id)), &[]).await
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
