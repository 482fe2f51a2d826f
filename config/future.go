package config

import (
	"regexp"
	"slices"
)

// isFuture tells keys that the design knows and this version does not support,
// so that the message can say so instead of calling them unknown.
func isFuture(path string) bool {
	plain := regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "")
	return slices.Contains([]string{
		"include", "notifications", "heartbeat", "listen", "telemetry", "runbooks", "groups",
		"regions.replication", "regions.list.object_lock", "regions.list.storage_class",
		"keys.agent", "keys.prove_every",
		"defaults.retention", "defaults.compression", "defaults.hooks",
		"defaults.limits.read", "defaults.limits.io_priority",
		"workloads.retention", "workloads.depends_on", "workloads.hooks", "workloads.contract",
		"workloads.group", "workloads.limits", "workloads.postgres", "workloads.mysql",
		"workloads.mariadb", "workloads.sqlite", "workloads.command", "workloads.volume.source_snapshot",
		"drills.key_from", "drills.on_failure", "drills.objectives.count_human_time",
		"drills.sandbox.type", "drills.sandbox.image", "drills.sandbox.network", "drills.sandbox.limits",
		"drills.verify.sql", "drills.verify.at_least", "drills.verify.at_most",
		"drills.verify.engine_check", "drills.verify.files", "drills.verify.http",
		"maintenance.prune", "maintenance.scrub", "maintenance.heal",
		"paths.cache_max",
	}, plain)
}

// futureKinds are workload kinds that later versions will protect.
func futureKinds() []string {
	return []string{"postgres", "mysql", "mariadb", "sqlite", "command"}
}
