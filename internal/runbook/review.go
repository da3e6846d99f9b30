package runbook

import "time"

// ReviewItem is a section of a post-incident review (section 6.2).
type ReviewItem struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// The IDs of the sections of a review.
const (
	ReviewTimeline    = "timeline"
	ReviewCause       = "root-cause"
	ReviewImpact      = "impact"
	ReviewRemediation = "remediation"
	ReviewActions     = "actions"
	ReviewDetection   = "detection"
	ReviewRunbook     = "runbook"
)

// ReviewItems returns what a post-incident review documents (section 6.2).
func ReviewItems() []ReviewItem {
	return []ReviewItem{
		{ReviewTimeline, "Timeline of events (UTC timestamps)"},
		{ReviewCause, "Root cause analysis"},
		{ReviewImpact, "Impact assessment (duration, affected users, financial impact if any)"},
		{ReviewRemediation, "Immediate remediation steps taken"},
		{ReviewActions, "Long-term corrective actions with owners and due dates"},
		{ReviewDetection, "Detection gap: could monitoring have caught this earlier?"},
		{ReviewRunbook, "Runbook improvements required"},
	}
}

// NeedsReview says whether the runbook wants a review of an incident of that
// priority (section 6.2).
func NeedsReview(p Priority) bool { return p == P1 || p == P2 }

// ReviewDue returns by when the review of an incident that ended then must be
// there; zero where the runbook wants none.
func ReviewDue(p Priority, ended time.Time) time.Time {
	if !NeedsReview(p) {
		return time.Time{}
	}
	return ended.Add(PostIncidentReviewWithin)
}
