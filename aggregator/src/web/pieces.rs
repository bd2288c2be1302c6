//! Long answers, sent as they are made: rows become pieces of some kilobytes, each made when the one before has gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;

/// A body made of rows.
pub(super) fn body(rows: impl Iterator<Item = String> + Send + Sync + 'static) -> Body {
    Body::new(Pieces { rows: Box::new(rows.fuse()) })
}

struct Pieces<I> {
    rows: Box<I>,
}

impl<I: Iterator<Item = String> + Send + Sync> HttpBody for Pieces<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES {
            let Some(row) = self.rows.next() else { break };
            piece.push_str(&row);
        }
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from(piece)))))
    }
}
