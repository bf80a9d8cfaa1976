-- Runs in an empty database, before the others.
create extension campfire;
select campfire.install();
