//! Races: tasks that a barrier releases together, on one handle of the store or on two.

use std::sync::Arc;

use authtokens::repository::Repository;
use tokio::sync::Barrier;

use crate::fixture::Fixture;

/// How often a race is run. One round proves nothing: the two must meet at every point where a store could fail.
pub const ROUNDS: usize = 160;

/// The handles of two contenders: the same one in every other round, else one each, as two processes have.
pub fn handles(fixture: &Fixture, round: usize) -> [Arc<dyn Repository>; 2] {
    let other = if round.is_multiple_of(2) { &fixture.repository } else { &fixture.second };
    [Arc::clone(&fixture.repository), Arc::clone(other)]
}

/// The outcomes of two contenders that begin at the same moment.
pub async fn both<A: Send + 'static, B: Send + 'static>(
    first: impl Future<Output = A> + Send + 'static,
    second: impl Future<Output = B> + Send + 'static,
) -> (A, B) {
    let barrier = Arc::new(Barrier::new(2));
    let first = tokio::spawn(behind(Arc::clone(&barrier), first));
    let second = tokio::spawn(behind(barrier, second));
    (first.await.unwrap(), second.await.unwrap())
}

/// The outcomes of many contenders that begin at the same moment.
pub async fn all<T: Send + 'static>(contenders: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let barrier = Arc::new(Barrier::new(contenders.len()));
    let begun: Vec<_> =
        contenders.into_iter().map(|contender| tokio::spawn(behind(Arc::clone(&barrier), contender))).collect();
    let mut outcomes = Vec::new();
    for contender in begun {
        outcomes.push(contender.await.unwrap());
    }
    outcomes
}

async fn behind<T>(barrier: Arc<Barrier>, contender: impl Future<Output = T>) -> T {
    barrier.wait().await;
    contender.await
}
