//! Connections, and what a client may take of them.

use std::{
    convert::Infallible,
    future::Future as _,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::task::TaskTracker;

use super::{Api, tls::Tls};

/// How many bytes the head of a request may have.
const MOST_HEAD_BYTES: usize = 64 << 10;
/// How long to wait where the system gives no connection, for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    /// How long a client may take for the head of a request, or not take in what it is sent.
    pub(super) patience: Duration,
}

pub(super) async fn accept(
    listener: TcpListener,
    api: Arc<Api>,
    tls: Option<Tls>,
    limits: Limits,
    connections: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let stopping = api.stopping.clone();
    loop {
        let accepted = async {
            // Those for which there is no room wait in the system's queue.
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stopping.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (api, tls) = (Arc::clone(&api), tls.clone());
        connections.spawn(async move {
            let _place = place;
            let stream = Timed::new(stream, limits.patience);
            match tls {
                None => serve(stream, peer.ip(), api, limits).await,
                // Apart, since what has no TLS needs no room for it.
                Some(tls) => {
                    let served = async {
                        let handshake =
                            tokio::time::timeout(limits.patience, tls.acceptor().accept(stream)).await;
                        if let Ok(Ok(stream)) = handshake {
                            serve(stream, peer.ip(), api, limits).await;
                        }
                    };
                    Box::pin(served).await;
                }
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    api: Arc<Api>,
    limits: Limits,
) {
    let stopping = api.stopping.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience)
        .max_buf_size(MOST_HEAD_BYTES)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // What goes wrong is the client's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// A connection that breaks where a client does not take in what it is sent, and sends nothing
/// either.
struct Timed {
    stream: TcpStream,
    patience: Duration,
    /// While something is to be written and cannot be.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    const fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, stuck: None }
    }

    /// Takes note of what came of a write.
    fn wrote<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stuck = None;
            return wrote;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let (Poll::Ready(Ok(())), patience) = (&read, self.patience)
            && let Some(stuck) = &mut self.stuck
        {
            // It sends, and will read when it has sent all.
            stuck.as_mut().reset(Instant::now() + patience);
        }
        read
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
