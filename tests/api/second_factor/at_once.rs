//! What is given many times at once counts once.

use futures_util::future::join_all;

use super::{Owner, give, log_in_with, new_owner, pending};
use crate::helpers::{TestApp, until};

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|one| **one == status).count()
}

#[tokio::test]
async fn of_thirty_logins_at_once_with_one_code_or_one_recovery_code_one_passes() {
    let app = TestApp::spawn();
    let Owner { app: theirs, recovery_codes, .. } = new_owner(&app, "AzureDiamond").await;
    for (field, value) in [("code", theirs.code(&app, 0)), ("recovery_code", recovery_codes[0].clone())] {
        let waiting = [pending(&app, "AzureDiamond").await, pending(&app, "AzureDiamond").await];
        let logins = (0..30).map(|number| {
            let (app, value, waiting) = (&app, value.as_str(), &waiting);
            async move {
                // Most in one step, and a few in two.
                let answer = match waiting.get(number) {
                    Some(token) => give(app, token, field, value).await,
                    None => log_in_with(app, "AzureDiamond", field, value).await,
                };
                answer.status().as_u16()
            }
        });
        let statuses = join_all(logins).await;
        assert_eq!((count(&statuses, 200), count(&statuses, 401)), (1, 29), "{field}");
    }
    assert_eq!((app.count("recovery_codes"), app.count_events("recovery_code_used")), (10, 1));
}

#[tokio::test]
async fn of_many_tries_at_once_at_one_login_five_are_looked_at() {
    let app = TestApp::spawn();
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    let wrong = theirs.wrong_code(&app);
    let statuses = join_all((0..30).map(|_| async { give(&app, &waiting, "code", &*wrong).await.status().as_u16() }));
    assert_eq!(count(&statuses.await, 401), 30);
    until("storing", || app.count_events("second_factor_failed") >= 5).await;
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 401);
    assert_eq!(app.count_events("second_factor_failed"), 5, "five tries failed, and the others were none");
}
