//! Services that this server does not have. Their answer names an alternative.

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use tonic::Status;

const ABSENT: [(&str, &str); 2] = [
    (
        "/event_store.client.users.Users/{method}",
        "There is no user management: users are lines of the file that --users-file names \
         (`eventstore-lite hash-password` makes their hashes), and change with a restart.",
    ),
    (
        "/event_store.client.projections.Projections/{method}",
        "There are no JavaScript projections: fold a subscription in your own code. Start the server \
         with --system-projections for $streams, $ce-, $et-, $bc- and $category-.",
    ),
];

pub(super) fn routes() -> Router {
    ABSENT.iter().fold(Router::new(), |router, &(path, text)| {
        let answer = move |_: Request| async move { refusal(text) };
        router.route(path, any(answer))
    })
}

fn refusal(text: &'static str) -> Response {
    Status::unimplemented(text).into_http()
}
