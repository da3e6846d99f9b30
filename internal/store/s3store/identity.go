package s3store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// ErrNoSTS says that nobody tells whose the credentials are: STS is AWS's, and
// an S3-compatible store has none unless AWS_ENDPOINT_URL_STS names one.
var ErrNoSTS = errors.New("the store has no STS that says whose they are")

// Identity asks STS whose the credentials are: an ARN. It needs no permission.
func Identity(ctx context.Context, opt Options) (string, error) {
	if opt.Endpoint != "" && os.Getenv("AWS_ENDPOINT_URL_STS") == "" {
		return "", ErrNoSTS
	}
	opt.setDefaults()
	cfg, err := sdkConfig(ctx, opt)
	if err != nil {
		return "", err
	}
	cfg.HTTPClient = straight(cfg.HTTPClient, opt.Stall)
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		if _, code := answer(err); code != "" {
			return "", fmt.Errorf("STS answers %s", code)
		}
		return "", fmt.Errorf("STS: %s", cause(err))
	}
	return aws.ToString(who.Arn), nil
}

// Own returns the ID of the access key that the SDK's chain finds, and where; ""
// if there is none.
func Own(ctx context.Context, opt Options) (id, source string) {
	opt.setDefaults()
	cfg, err := sdkConfig(ctx, opt)
	if err != nil || cfg.Credentials == nil {
		return "", ""
	}
	found, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return "", ""
	}
	return found.AccessKeyID, found.Source
}
