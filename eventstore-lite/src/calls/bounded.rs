//! Wraps every call and its answer: counts the call, ends it at its deadline, and gives messages that are too large
//! the status of the real server.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use super::{CallConnection, OpenCall};

const STATUS: &str = "grpc-status";
/// The status for too large messages: `OUT_OF_RANGE` in this server's framework, `RESOURCE_EXHAUSTED` in the real
/// server.
const TOO_LARGE: (&str, &str) = ("11", "8");

/// The deadline of a call.
#[derive(Clone, Copy)]
struct Deadline(Instant);

/// The deadline of the request with these extensions, if its caller gave one.
pub(crate) fn deadline(of: &Extensions) -> Option<Instant> {
    of.get().map(|Deadline(at)| *at)
}

/// Wraps a service and applies these bounds to its calls.
#[derive(Clone)]
pub(crate) struct Bounded<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    /// Starts the deadline before the inner service runs. Otherwise tonic's own deadline would come first and answer
    /// CANCELLED.
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let deadline = time_left(request.headers()).map(|left| Instant::now() + left);
        let extensions = request.extensions_mut();
        if let Some(at) = deadline {
            extensions.insert(Deadline(at));
        }
        let open = extensions
            .get()
            .cloned()
            .map(|CallConnection { tcp, calls }| {
                extensions.insert(tcp);
                calls.open()
            });
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = match deadline {
                Some(at) => match timeout_at(at, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => return Ok(exceeded().into_http()),
                },
                None => answer.await?,
            };
            reword(answer.headers_mut());
            Ok(answer.map(|body| Body::new(BoundedBody::new(body, deadline, open))))
        })
    }
}

/// Parses the header `grpc-timeout`: at most eight digits and a unit.
fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = Some(number).filter(|number| number.len() <= 8)?;
    let number: u32 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(number.into())),
        "M" => Some(Duration::from_mins(number.into())),
        "S" => Some(Duration::from_secs(number.into())),
        "m" => Some(Duration::from_millis(number.into())),
        "u" => Some(Duration::from_micros(number.into())),
        "n" => Some(Duration::from_nanos(number.into())),
        _ => None,
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline of the call has passed")
}

fn reword(headers: &mut HeaderMap) {
    let (sent, expected) = TOO_LARGE;
    if let Some(status) = headers.get_mut(STATUS).filter(|status| *status == sent) {
        *status = HeaderValue::from_static(expected);
    }
}

/// The body of an answer with a deadline.
struct BoundedBody {
    /// `None` after the deadline.
    body: Option<Body>,
    deadline: Option<Pin<Box<Sleep>>>,
    _open: Option<OpenCall>,
}

impl BoundedBody {
    fn new(body: Body, deadline: Option<Instant>, open: Option<OpenCall>) -> Self {
        Self {
            body: Some(body),
            deadline: deadline.map(|at| Box::pin(sleep_until(at))),
            _open: open,
        }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.deadline.as_mut();
        deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_some() && self.is_over(context) {
            self.body = None;
            let mut trailers = HeaderMap::new();
            exceeded().add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let mut frame = ready!(Pin::new(body).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            reword(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, Status>>;

    /// A service that answers after a while with this text, and then never ends its answer.
    #[derive(Clone)]
    struct Slow {
        after: Duration,
        says: &'static str,
    }

    impl Service<Request<Body>> for Slow {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let Self { after, says } = self.clone();
            assert!(deadline(request.extensions()).is_some());
            Box::pin(async move {
                tokio::time::sleep(after).await;
                let frames: Frames = vec![Ok(Frame::data(says.into()))];
                let frames = futures::stream::iter(frames);
                let frames = futures::StreamExt::chain(frames, futures::stream::pending());
                Ok(Response::new(Body::new(StreamBody::new(frames))))
            })
        }
    }

    const MINUTE: Duration = Duration::from_mins(1);

    async fn answer_after(after: Duration) -> Response<Body> {
        let request = Request::post("/").header("grpc-timeout", "1M");
        let request = request.body(Body::empty()).unwrap();
        let slow = Slow {
            after,
            says: "something",
        };
        Bounded(slow).call(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_at_its_deadline() {
        let begin = Instant::now();
        let answer = answer_after(2 * MINUTE).await;
        assert_eq!(answer.headers()[STATUS], "4");
        assert_eq!(begin.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_ends_at_the_deadline_of_its_call() {
        let begin = Instant::now();
        let mut answer = answer_after(Duration::ZERO).await.into_body();
        let first = answer.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "something");
        let last = answer.frame().await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap()[STATUS], "4");
        assert!(answer.frame().await.is_none());
        assert!(begin.elapsed() >= MINUTE && begin.elapsed() < 2 * MINUTE);
    }

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        let parsed = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            time_left(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                value,
            )]))
        };
        assert_eq!(parsed("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(parsed("2M"), Some(2 * MINUTE));
        assert_eq!(parsed("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parsed("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parsed("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parsed("0n"), Some(Duration::ZERO));
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
