//! One stream of an HTTP/2 connection: reads a request's body and writes its response.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sallyport_core::http1::{Framing, RequestHead, ResponseHead, http_date};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    fault::ClientFault,
    http2_transport::write,
    leftovers::{Allowance, drop_rest},
    own_response::OwnResponse,
    pause::Pause,
};

/// The largest part of a response; the time limit for sending applies to each part.
const MAX_PART: usize = 32 << 10;

/// The client of one stream.
pub(crate) struct Http2 {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    framing: Framing,
    is_head: bool,
    interim: Interim,
    response: ResponseProgress,
    ends_connection: bool,
}

/// How much of the response has been handed to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseProgress {
    NotAll,
    Whole,
}

/// Whether the client waits for 100 (Continue) before it sends its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interim {
    None,
    Awaited,
}

/// How a client ended its stream after its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the end of its body, or the gateway stopped reading it.
    Body,
    /// By a reset, because it will send no more.
    Reset,
}

impl Http2 {
    /// Creates the client of a request with this head.
    pub(crate) fn new(head: &RequestHead, framing: Framing, body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let waits = framing != Framing::Length(0) && head.expects_continue();
        let interim = if waits { Interim::Awaited } else { Interim::None };
        let is_head = head.method == Method::HEAD;
        Self {
            body,
            respond,
            sending: None,
            framing,
            is_head,
            interim,
            response: ResponseProgress::NotAll,
            ends_connection: false,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        loop {
            let Poll::Ready(data) = self.body.poll_data(cx) else {
                self.send_continue()?;
                return Poll::Pending;
            };
            let data = data.transpose().map_err(|_| ClientFault::Gone)?;
            let bytes = data.as_ref().map_or(0, Bytes::len);
            self.body.flow_control().release_capacity(bytes).map_err(|_| ClientFault::Gone)?;
            // Many bodies end with an empty frame. It is not data: written as a chunk, it would be the last one.
            if data.is_none() || bytes > 0 {
                return Poll::Ready(Ok(data));
            }
        }
    }

    /// Sends 100 (Continue) to a client that waits for it.
    fn send_continue(&mut self) -> Result<(), ClientFault> {
        if self.interim == Interim::None || self.sending.is_some() {
            return Ok(());
        }
        self.interim = Interim::None;
        self.interim(ResponseHead { status: StatusCode::CONTINUE, headers: HeaderMap::new() })
    }

    /// Sends an interim response.
    pub(crate) fn interim(&mut self, head: ResponseHead) -> Result<(), ClientFault> {
        self.respond.send_informational(response(head)).map_err(|_| ClientFault::Gone)
    }

    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(|_| ())
    }

    pub(crate) fn start(&mut self, head: ResponseHead, end: bool) -> Result<(), ClientFault> {
        let mut response = response(head);
        // RFC 9110, section 6.6.1: a response without a Date gets one.
        let date = response.headers_mut().entry(header::DATE);
        date.or_insert_with(|| http_date(SystemTime::now()));
        let end = end || self.is_head;
        self.sending = Some(self.respond.send_response(response, end).map_err(|_| ClientFault::Gone)?);
        if end {
            self.response = ResponseProgress::Whole;
        }
        Ok(())
    }

    /// Sends data in parts; the time limit applies to each of them.
    pub(crate) async fn send(&mut self, mut data: Bytes, pause: &mut Pause<'_>) -> Result<(), ClientFault> {
        if self.response == ResponseProgress::Whole {
            return Ok(());
        }
        let sending = self.sending.as_mut().ok_or(ClientFault::Gone)?;
        while !data.is_empty() {
            let part = data.split_to(data.len().min(MAX_PART));
            let mut writing = pin!(write(sending, part));
            poll_fn(|cx| {
                if let Poll::Ready(written) = writing.as_mut().poll(cx) {
                    return Poll::Ready(written);
                }
                loop {
                    let standing = ready!(pause.poll_stall(cx));
                    if standing.lasted >= standing.limit {
                        return Poll::Ready(Err(ClientFault::Gone));
                    }
                }
            })
            .await?;
            pause.end();
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), ClientFault> {
        if self.response == ResponseProgress::NotAll {
            self.end_with(Bytes::new())?;
        }
        Ok(())
    }

    /// Hands a complete response to the connection without waiting for the client's window. If this waited, a client that opens no
    /// window would hold a request's slot for each response.
    pub(crate) fn respond(&mut self, mut response: OwnResponse) -> Result<(), ClientFault> {
        let length = response.body.len();
        if response.head.status != StatusCode::NO_CONTENT {
            response.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.start(response.head, length == 0)?;
        if self.response == ResponseProgress::NotAll {
            self.end_with(response.body.into())?;
        }
        Ok(())
    }

    fn end_with(&mut self, data: Bytes) -> Result<(), ClientFault> {
        let sending = self.sending.as_mut().ok_or(ClientFault::Gone)?;
        sending.send_data(data, true).map_err(|_| ClientFault::Gone)?;
        self.response = ResponseProgress::Whole;
        Ok(())
    }

    pub(crate) fn abort(&mut self) {
        if self.response == ResponseProgress::NotAll {
            self.respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }

    /// Makes this the last stream that the client may open.
    pub(crate) fn end_connection(&mut self) {
        self.ends_connection = true;
    }

    /// Returns whether this is the last stream that the client may open.
    pub(crate) fn ends_connection(&self) -> bool {
        self.ends_connection
    }

    /// Returns whether the client, whose response is complete, may still be sending.
    pub(crate) fn has_leftovers(&self) -> bool {
        self.response == ResponseProgress::Whole && !self.body.is_end_stream()
    }

    /// Reads and discards the rest of the body. If this stops before the body has ended, the stream is reset.
    pub(crate) async fn drop_leftovers(mut self, allowance: &Allowance) -> Ending {
        let mut wait = None::<Pin<Box<Sleep>>>;
        let mut ending = Ending::Body;
        drop_rest(|cx| {
            if let Some(waiting) = &mut wait {
                ready!(waiting.as_mut().poll(cx));
                wait = None;
            }
            let read = ready!(self.poll_body(cx));
            if read.is_err() {
                ending = Ending::Reset;
            }
            let Ok(Some(data)) = read else { return Poll::Ready(None) };
            wait = allowance.spend(data.len(), Instant::now()).map(|time| Box::pin(sleep(time)));
            Poll::Ready(Some(data.len()))
        })
        .await;
        ending
    }
}

fn response(head: ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}
